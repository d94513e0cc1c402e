"""Arrays as a notebook has them, checked: what is wrong, where, and what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitor.detectors.base import Rows

Array = NDArray[np.float64]


def numbers(given: ArrayLike, where: str, *, missing: bool = False) -> Array:
    """A (N, d) array of finite numbers, N, d ≥ 1; (N,) is one column. With `missing`, NaN may stand in it.

    Raises ValueError otherwise.
    """
    raw = _array(given, where)
    if raw.dtype.kind not in "biuf":
        raise ValueError(f"{where} must hold numbers, got {raw.dtype}")
    array: Array = raw.astype(np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"{where} must be shaped (rows, dimensions), got {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{where} is empty: its shape is {array.shape}, at least one row and one column are needed")
    wrong = np.isinf(array) if missing else ~np.isfinite(array)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"{where} holds {'infinity' if np.isinf(array[row, column]) else 'NaN'} at row {row}, column {column} "
            f"({int(wrong.any(axis=1).sum())} rows in all): drop or fill such rows: no distance to them is known"
        )
    return array


def _array(given: ArrayLike, where: str) -> NDArray[Any]:
    if given is None:
        raise ValueError(f"{where} is missing: give an array shaped (rows, dimensions)")
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{where} is no array: {error}") from None
    if array.ndim == 0:
        raise ValueError(f"{where} must be shaped (rows, dimensions), got a single value")
    return array


def embeddings(reference: ArrayLike, current: ArrayLike, what: str = "") -> Rows:
    """Two samples of the same width, centred on their common mean: in single precision an offset would drown them."""
    before = numbers(reference, f"{what}reference")
    after = numbers(current, f"{what}current")
    if before.shape[1] != after.shape[1]:
        raise ValueError(
            f"{what}reference has {before.shape[1]} columns and {what}current {after.shape[1]}: embeddings of one "
            "encoder have the same width"
        )
    largest = np.maximum(np.abs(before).max(axis=0), np.abs(after).max(axis=0))
    if largest.max() > 1e15:
        raise ValueError(f"{what}embeddings as large as {largest.max():.1g} cannot be squared: 1e15 is the most")
    mean = (before.sum(axis=0) + after.sum(axis=0)) / (len(before) + len(after))
    sides = before - mean, after - mean
    # a constant column has no spread but that of rounding
    varying = np.maximum(*(np.abs(side).max(axis=0) for side in sides)) > 1e-7 * largest
    return Rows(*((side * varying).astype(np.float32) for side in sides))


def scaled(rows: Rows) -> Rows:
    """Rows with a root mean square of one, so that neither tiny nor huge units reach the limits of precision."""
    total = sum(float(np.square(side, dtype=np.float64).sum()) for side in (rows.reference, rows.current))
    rms = (total / (rows.reference.size + rows.current.size)) ** 0.5
    return Rows((rows.reference / rms), (rows.current / rms)) if rms > 0 else rows


def flags(given: ArrayLike, where: str) -> NDArray[np.bool_]:
    """(N,) of bool from 0 and 1 or bool, (N,) or (N, 1). Raises ValueError otherwise."""
    array = numbers(given, where)
    if array.shape[1] != 1:
        raise ValueError(f"{where} must have one column of 0 and 1, got {array.shape[1]} columns")
    return _zero_or_one(array[:, 0], where)


def _zero_or_one(column: Array, where: str) -> NDArray[np.bool_]:
    other = column[(column != 0) & (column != 1)]
    if len(other):
        raise ValueError(f"{where} must hold 0 and 1 only, got {other[0]:g}")
    return np.asarray(column == 1, np.bool_)


def presence(given: ArrayLike, where: str) -> NDArray[np.bool_]:
    """Which rows are present: one column of 0 and 1 (or bool), or wider rows of which none is NaN; (N,) of bool."""
    array = _array(given, where)
    if array.ndim == 2 and array.shape[1] > 1:
        return np.asarray(~np.isnan(numbers(array, where, missing=True)).any(axis=1), np.bool_)
    return flags(array, where)


def agreeing(given: ArrayLike, where: str) -> NDArray[np.bool_]:
    """Which rows agree: one column of 0 and 1 (or bool), or two columns or more, one a head, that are all equal."""
    array = _array(given, where)
    if array.ndim == 2 and array.shape[1] > 1:
        columns: NDArray[Any] = array if array.dtype.kind in "US" else numbers(array, where)
        if len(columns) == 0:
            raise ValueError(f"{where} is empty: at least one row is needed")
        return np.asarray((columns == columns[:, :1]).all(axis=1), np.bool_)
    return flags(array, where)


def answers(given: ArrayLike, where: str) -> tuple[Array, NDArray[np.bool_]]:
    """Confidence in [0, 1] and whether right, from (N, 2)."""
    array = numbers(given, where)
    if array.shape[1] != 2:
        raise ValueError(f"{where} must have two columns, confidence and correct, got {array.shape[1]}")
    confidence = array[:, 0]
    if confidence.min() < 0 or confidence.max() > 1:
        raise ValueError(f"{where}: confidences (column 0) must lie in [0, 1], got {confidence.min():g} to "
                         f"{confidence.max():g}")  # fmt: skip
    return confidence, _zero_or_one(array[:, 1], f"{where}: correct (column 1)")


def classes(given: ArrayLike, where: str) -> NDArray[Any]:
    """(N,) labels from labels (N,) or (N, 1), numbers or strings, or the largest of probabilities (N, C)."""
    array = _array(given, where)
    if array.dtype.kind == "O" and all(isinstance(each, str) for each in array.flat):
        array = array.astype(np.str_)
    if array.dtype.kind in "US":
        if array.size == 0 or array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
            raise ValueError(f"{where} must be labels shaped (rows,) or (rows, 1), got {array.shape}")
        return array.reshape(-1)
    values = numbers(array, where)
    if values.shape[1] == 1:
        if (values != np.round(values)).any():
            raise ValueError(
                f"{where} must hold whole numbers or strings as labels, got {values[values % 1 != 0][0]:g}"
            )
        return values[:, 0].astype(np.int64)
    if values.min() < 0 or np.abs(values.sum(axis=1) - 1).max() > 0.01:
        raise ValueError(
            f"{where} has {values.shape[1]} columns, so that each row must be probabilities that sum to one; labels "
            "are shaped (rows,) or (rows, 1)"
        )
    largest: NDArray[np.intp] = values.argmax(axis=1)
    return largest

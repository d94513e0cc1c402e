"""From requests, each prepared by itself, to the arrays of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.modalities.base import Prepared
from inference.model_io import ModelInput

Row = Mapping[str, Prepared]
"""One request: what was prepared of each modality that is present."""


def collate(rows: Sequence[Row], blanks: Row) -> ModelInput:
    """Batch B requests, one at least. `blanks` (`ModelCard.blanks`) has all of the model's modalities.

    Inputs of equal shape are stacked; else their first axis is padded with zeros to the longest. A modality that no
    request of the batch has takes the shape of its blank.
    """
    present = {name: np.array([name in row for row in rows], np.bool_) for name in blanks}
    arrays = {
        name: {
            key: _join([row[name].inputs[key] if name in row else None for row in rows], like)
            for key, like in blank.inputs.items()
        }
        for name, blank in blanks.items()
    }
    return ModelInput(arrays, present)


def length(row: Row) -> int:
    """The longest sequence of a request, in tokens or steps; inputs with three axes are pictures and count 0."""
    arrays = (array for prepared in row.values() for array in prepared.inputs.values())
    return max((len(array) for array in arrays if array.ndim in (1, 2)), default=0)


def _join(values: Sequence[NDArray[Any] | None], like: NDArray[Any]) -> NDArray[Any]:
    """(B, ...) of the rows' arrays, zeros where there is none."""
    given = [value for value in values if value is not None]
    if len(given) == len(values) and len({value.shape for value in given}) == 1:
        return np.stack(given)
    shape = like.shape if not given else (max(len(value) for value in given), *given[0].shape[1:])
    joined = np.zeros((len(values), *shape), like.dtype)
    for row, value in zip(joined, values, strict=True):
        if value is not None:
            row[: len(value)] = value
    return joined

"""Bins: the mergeable summary of rows that the worker writes and the monitor tests.

Rows are dealt, in arrival order, into small bins of `q` rows. A bin keeps its row count and the **sum** of every
column over its rows. Concatenating bins is all that merging takes: exact, associative, commutative up to the order
of bins, with an empty element. Because near-duplicate rows of one session arrive together they share a bin, so a
test that permutes whole bins keeps its false-alarm rate where one that permutes rows does not.

The stored form is a safetensors buffer (one array per column, one for the counts) whose metadata names the layout.

| column | of | sums over the bin's rows |
|---|---|---|
| `features` | each modality and `fused` | the frozen feature map's r features |
| `quality` | each modality | its quality statistics |
| `shape` | each modality | for each statistic, rows in each of `SHAPE_CELLS` cells of equal mass in the baseline |
| `classes`, `confidence` | `fused` | rows of each predicted class; rows by confidence in equal cells of [0, 1] |
| `agreement` | `fused` | rows on which unimodal heads and the fused prediction agree |
| `pairing` | `fused` | the pairing score's two residuals |
| `shift` | `fused` | pairing scores with neighbours up to `FARTHEST` requests away, earlier ones first; rows counted |
| `lag` | `fused` | rows by the seconds between the two captures (left minus right) in the cells of `LAG_EDGES` |
| `contribution` | `fused` | confidence lost without each modality, in order of names; rows on which it was measured |

Not every row has a `shift`, a `lag` or a `contribution`; those columns say themselves how many have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as _load
from safetensors.numpy import save as _save

LAYOUT = 1
SHAPE_CELLS = 8
FARTHEST = 4  # requests that one modality may run ahead of the other and still be recognised
LAG_EDGES = (-60.0, -10.0, -2.0, -0.5, -0.1, 0.1, 0.5, 2.0, 10.0, 60.0)  # seconds
_COUNT = "__count__"

FloatArray = NDArray[np.float32]


class BinsError(ValueError):
    """A stored summary cannot be read, or two cannot be merged."""


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """K bins of rows.

    `count` is (K,) int32, rows in each bin (1 or more). `columns` maps a column's name to its (K, width) float32
    sums over the bin's rows.
    """

    count: NDArray[np.int32]
    columns: Mapping[str, FloatArray]

    def __post_init__(self) -> None:
        for name, sums in self.columns.items():
            if sums.ndim != 2 or len(sums) != len(self.count):
                raise BinsError(f"column {name!r} has shape {sums.shape}, expected ({len(self.count)}, width)")

    @property
    def rows(self) -> int:
        """Rows over all bins."""
        return int(self.count.sum())

    def means(self, column: str) -> FloatArray:
        """Each bin's mean of a column, (K, width)."""
        means: FloatArray = np.divide(self.columns[column], self.count[:, None], dtype=np.float32)
        return means

    def total(self, column: str) -> NDArray[np.float64]:
        """The column's sum over all rows, (width,), added in double precision."""
        total: NDArray[np.float64] = self.columns[column].sum(axis=0, dtype=np.float64)
        return total


EMPTY = Bins(np.zeros(0, np.int32), {})


def from_rows(rows: Mapping[str, NDArray[np.floating]], q: int) -> Bins:
    """Deal N rows into bins of q in arrival order; the last bin may be smaller.

    `rows` maps a column to its (N, width) array. Raises BinsError where columns disagree about N.
    """
    lengths = {len(values) for values in rows.values()}
    if len(lengths) > 1:
        raise BinsError(f"columns have different numbers of rows: {sorted(lengths)}")
    n = lengths.pop() if lengths else 0
    if n == 0:
        return EMPTY
    starts = np.arange(0, n, q)
    count = np.diff(np.append(starts, n)).astype(np.int32)
    columns = {name: np.add.reduceat(np.asarray(values, np.float32), starts, axis=0) for name, values in rows.items()}
    return Bins(count, columns)


def merge(parts: Iterable[Bins], *, common: bool = False) -> Bins:
    """Concatenate bins. Empty parts vanish; raises BinsError where two parts hold different columns.

    With `common`, columns that not every part holds are left out instead: an older worker may write fewer. A column
    that all hold must still be as wide in each.
    """
    kept = [part for part in parts if len(part.count)]
    if not kept:
        return EMPTY
    shapes = [{name: sums.shape[1] for name, sums in part.columns.items()} for part in kept]
    if common:
        shared = set.intersection(*(set(shape) for shape in shapes))
        shapes = [{name: width for name, width in shape.items() if name in shared} for shape in shapes]
    if any(shape != shapes[0] for shape in shapes):
        raise BinsError(f"bins with different columns cannot be merged: {shapes}")
    return Bins(
        np.concatenate([part.count for part in kept]),
        {name: np.concatenate([part.columns[name] for part in kept]) for name in shapes[0]},
    )


def extend(bins: Bins, rows: Mapping[str, NDArray[np.floating]], q: int) -> Bins:
    """Append N rows in arrival order: they fill the last bin up to q, then new bins.

    `extend(from_rows(a, q), b, q)` equals `from_rows(a + b, q)` up to rounding. Raises BinsError where columns differ.
    """
    if len(bins.count) == 0:
        return from_rows(rows, q)
    room = max(0, q - int(bins.count[-1]))
    if room == 0:
        return merge([bins, from_rows(rows, q)])
    head = from_rows({name: values[:room] for name, values in rows.items()}, q)
    tail = from_rows({name: values[room:] for name, values in rows.items()}, q)
    last = merge([_part(bins, len(bins.count) - 1, len(bins.count)), head])
    return merge([_part(bins, 0, len(bins.count) - 1), _join(last, np.zeros(1, np.intp)), tail])


def halve(bins: Bins) -> Bins:
    """Join neighbouring bins in pairs: what `from_rows` with twice the q would have given."""
    return _join(bins, np.arange(0, len(bins.count), 2)) if len(bins.count) else bins


def level(bins: Bins, k: int) -> Bins:
    """Join neighbouring bins into exactly min(k, K) bins whose rows are as equal as whole bins allow.

    Two sides levelled to the same number of bins can be compared by permuting bins even where the bins of one are
    noisier: with equal numbers the permuted difference of means has the variance of the true one.
    """
    k = min(k, len(bins.count))
    if k == len(bins.count):
        return bins
    ends = np.cumsum(bins.count)
    ideal = np.searchsorted(ends, ends[-1] * np.arange(k) / k, side="right")
    order = np.arange(k)
    # at least one bin in each group, from the left and from the right
    starts = np.maximum.accumulate(np.maximum(ideal, order) - order) + order
    return _join(bins, np.minimum(starts, len(bins.count) - k + order))


def _part(bins: Bins, start: int, stop: int) -> Bins:
    return Bins(bins.count[start:stop], {name: sums[start:stop] for name, sums in bins.columns.items()})


def _join(bins: Bins, starts: NDArray[np.intp]) -> Bins:
    return Bins(
        np.add.reduceat(bins.count, starts).astype(np.int32),
        {name: np.add.reduceat(sums, starts, axis=0) for name, sums in bins.columns.items()},
    )


def dump(bins: Bins) -> bytes:
    """The stored form. Identical bins give identical bytes."""
    arrays = {name: np.ascontiguousarray(sums, np.float32) for name, sums in sorted(bins.columns.items())}
    return _save({_COUNT: np.ascontiguousarray(bins.count, np.int32), **arrays}, {"bins": str(LAYOUT)})


def load(payload: bytes) -> Bins:
    """Read the stored form. Raises BinsError on anything that `dump` did not write."""
    try:
        arrays = _load(payload)
    except Exception as error:
        raise BinsError(f"not a stored summary: {error}") from error
    if _COUNT not in arrays or b'"bins":"%d"' % LAYOUT not in payload[:4096]:
        raise BinsError(f"not a summary of layout {LAYOUT}")
    count = arrays.pop(_COUNT)
    return Bins(count, arrays)

"""Totals: counts over all rows of a slot, by name, that add on merge.

Whole numbers throughout, so that merging is exact, associative and commutative, with `{}` as its empty element. Bins
hold the rows that a drift test can use; totals hold every row, the degraded and the failed ones too: they say how
fast, how dear and how sure the answers were. Stored as JSON, so that a dashboard can read them with SQL.

| name | counts |
|---|---|
| `latency.<stage>` | rows by milliseconds, in the cells that `LATENCY_EDGES_MS` bounds |
| `classes.<route>` | rows by predicted class |
| `confidence.<route>` | rows by confidence, in equal cells of [0, 1] |
| `agreement` | rows whose unimodal heads and fused prediction do not all agree, and those where they do |
| `compute_us` | one number: microseconds that the model spent, each row with its share of its batch |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Upper bounds of cells, the last cell has none. The SLOs' 50 and 300 ms are among them: they are counted exactly.
LATENCY_EDGES_MS = (1, 2, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10_000)
STAGES = ("queue", "preprocess", "encode", "fuse", "total")

Totals = Mapping[str, Sequence[int]]


class TotalsError(ValueError):
    """Totals that cannot be added up, or questions that they cannot answer."""


def merge(parts: Iterable[Totals]) -> dict[str, list[int]]:
    """The totals of all parts' rows. Raises TotalsError where a name has different numbers of cells."""
    merged: dict[str, list[int]] = {}
    for part in parts:
        for name, counts in part.items():
            before = merged.setdefault(name, [0] * len(counts))
            if len(before) != len(counts):
                raise TotalsError(f"{name!r} has {len(before)} cells in one summary and {len(counts)} in another")
            merged[name] = [a + b for a, b in zip(before, counts, strict=True)]
    return merged


def histogram(values: ArrayLike, edges: Sequence[float]) -> list[int]:
    """How many of N values lie in each of len(edges) + 1 cells; a cell holds its upper edge. NaN is in none."""
    numbers = np.asarray(values, np.float64)
    cells = np.searchsorted(edges, numbers[~np.isnan(numbers)], side="left")
    counts: list[int] = np.bincount(cells, minlength=len(edges) + 1).tolist()
    return counts


def at_most(counts: Sequence[int], limit: float, edges: Sequence[float] = LATENCY_EDGES_MS) -> int:
    """Rows whose value is at most `limit`, exactly. Raises TotalsError where the limit is no edge."""
    if limit not in edges or len(counts) != len(edges) + 1:
        raise TotalsError(f"rows within {limit} cannot be counted in cells bounded by {list(edges)}")
    return sum(counts[: list(edges).index(limit) + 1])


def quantile(counts: Sequence[int], share: float, edges: Sequence[float] = LATENCY_EDGES_MS) -> float:
    """The value below which a `share` of the rows lies, by straight lines within cells; NaN without rows.

    The last cell has no upper bound: a quantile in it is told as its lower one.
    """
    ends: NDArray[np.int64] = np.cumsum(counts)
    if len(ends) == 0 or ends[-1] == 0:
        return float("nan")
    cell = int(np.searchsorted(ends, share * ends[-1], side="left"))
    if cell == len(edges):
        return float(edges[-1])
    low, before = (edges[cell - 1], ends[cell - 1]) if cell else (0.0, 0)
    return float(low + (edges[cell] - low) * (share * ends[-1] - before) / max(1, counts[cell]))

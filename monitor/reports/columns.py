"""From summaries to columns: baseline and period as points that a library of distributions can compare.

Summaries keep sums over groups of requests, not requests. Counts (classes, agreement, confidence by cell) are of
single requests. Statistics of quality and embeddings are means of groups, which are made as large on both sides: the
mean of more requests spreads less. Each column is drawn down, or stretched, to POINTS points at equal steps of its
distribution; distances between distributions stay as they are, and p-values mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from migrations.schema import bins as schema_bins
from migrations.schema import totals as schema_totals
from migrations.schema.bins import Bins
from monitor.domain.window import FUSED, Reference, Summary
from monitor.reports.material import Column, Compared

POINTS = 1000
SHOWN_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

Numbers = NDArray[np.float64]


def compare(reference: Reference, current: Mapping[str, Summary], slots: int) -> Compared:
    """The columns of a version's baseline and of a period's summaries, each by modality."""
    columns: list[Column] = []
    left_out: list[str] = []
    for modality in sorted(reference.summaries.keys() | current.keys()):
        before = reference.summaries.get(modality, Summary(modality))
        after = current.get(modality, Summary(modality))
        reason = _incomparable(before, after)
        if reason is not None:
            left_out.append(f"{modality}: {reason}")
            continue
        if modality == FUSED:
            columns += _answers(before.bins, after.bins, reference.class_names)
        names = reference.names.get(modality, ())
        columns += _measured(modality, *_alike(before.bins, after.bins), names)
    return Compared(columns=columns, left_out=left_out, slots=slots, latency_ms=latency(current))


def latency(current: Mapping[str, Summary]) -> dict[str, float]:
    """Quantiles of the worker's total time in milliseconds; empty where none was counted."""
    counts = current.get(FUSED, Summary(FUSED)).totals.get("latency.total", ())
    if not sum(counts):
        return {}
    return {name: schema_totals.quantile(counts, share) for name, share in SHOWN_QUANTILES.items()}


def _incomparable(before: Summary, after: Summary) -> str | None:
    if before.bins.rows == 0:
        return "the baseline has no rows of it"
    if after.bins.rows == 0:
        return "the period has no rows of it"
    if before.fingerprint != after.fingerprint:
        return "the period was encoded otherwise than the baseline"
    return None


def _answers(before: Bins, after: Bins, classes: Sequence[str]) -> Iterator[Column]:
    """Columns of single requests, from counts."""
    for column, name, labels in (
        ("classes", "predicted class", classes),
        ("agreement", "heads agree", None),
        ("confidence", "confidence", None),
    ):
        if column not in before.columns or column not in after.columns:
            continue
        sides = [_counts(side, column) for side in (before, after)]
        if len(sides[0]) != len(sides[1]) or not all(side.sum() for side in sides):
            continue
        rows = [int(side.sum()) for side in sides]
        values: list[list[float]] | list[list[str]]
        if column == "confidence":
            middles = (np.arange(len(sides[0])) + 0.5) / len(sides[0])
            values = [_spread(middles, side, name) for side in sides]
        else:
            named = list(labels) if labels and len(labels) == len(sides[0]) else _unnamed(column, len(sides[0]))
            values = [[named[int(place)] for place in _spread(np.arange(len(side)), side, name)] for side in sides]
        kind = "number" if column == "confidence" else "category"
        yield _column(name, kind, values, rows)


def _counts(bins: Bins, column: str) -> Numbers:
    """Rows by cell; agreement is one sum: rows that agree, beside all others."""
    total = bins.total(column)
    return np.array([bins.rows - total[0], total[0]]) if column == "agreement" else total


def _unnamed(column: str, count: int) -> list[str]:
    return ["no", "yes"] if column == "agreement" else [f"class {place + 1}" for place in range(count)]


def _measured(modality: str, before: Bins, after: Bins, names: Sequence[str]) -> Iterator[Column]:
    """Columns of groups of requests, from means."""
    rows = [before.rows, after.rows]
    shared = before.columns.keys() & after.columns.keys()
    if "quality" in shared and before.columns["quality"].shape[1] == after.columns["quality"].shape[1] == len(names):
        for place, name in enumerate(names):
            means = [side.means("quality")[:, place].astype(np.float64) for side in (before, after)]
            if all(np.isfinite(side).any() for side in means):
                title = f"{modality} {name.replace('_', ' ')}"
                yield _column(title, "number", [_spread_means(side, title) for side in means], rows)
    if "features" in shared and before.columns["features"].shape[1] == after.columns["features"].shape[1]:
        title = f"{modality} embedding distance"
        sides = _distances(before, after)
        yield _column(title, "number", [_spread_means(side, title) for side in sides], rows)


def _distances(before: Bins, after: Bins) -> list[Numbers]:
    """How far groups lie from the baseline's mean embedding, in multiples of how far its own do on average."""
    centre = before.total("features") / max(1, before.rows)
    sides = [np.linalg.norm(side.means("features") - centre, axis=1) for side in (before, after)]
    unit = float(sides[0].mean()) or 1.0
    return [side / unit for side in sides]


def _alike(before: Bins, after: Bins) -> tuple[Bins, Bins]:
    """Both with groups of about as many requests: those of the side that has the larger ones."""
    size = max(side.rows / len(side.count) for side in (before, after))
    first, second = (schema_bins.level(side, max(1, round(side.rows / size))) for side in (before, after))
    return first, second


def _spread(values: NDArray[np.number], weights: Numbers, name: str) -> list[float]:
    """POINTS values, each as often as its weight says to one point, in an order that says nothing."""
    ends = np.cumsum(np.maximum(weights, 0))
    steps = (np.arange(POINTS) + 0.5) / POINTS * ends[-1]
    drawn = np.asarray(values, np.float64)[np.searchsorted(ends, steps, side="right")]
    shuffled: list[float] = np.random.default_rng(len(name)).permutation(drawn).tolist()
    return shuffled


def _spread_means(means: Numbers, name: str) -> list[float]:
    known = np.sort(means[np.isfinite(means)])
    return _spread(known, np.ones(len(known)), name)


def _column(name: str, kind: str, values: Sequence[Sequence[str | float]], rows: Sequence[int]) -> Column:
    return Column.model_validate(
        {
            "name": name,
            "kind": kind,
            "reference": values[0],
            "current": values[1],
            "reference_rows": rows[0],
            "current_rows": rows[1],
        }
    )

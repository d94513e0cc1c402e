"""What tests on bins share: two sides with equally many bins, row spread, and a t-test of bin means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from migrations.schema import bins as schema_bins
from migrations.schema.bins import Bins
from monitor.detectors.base import Context
from monitor.domain.window import IncomparableError, Summary

Array = NDArray[np.float64]

# Longest list of moved statistics that a finding carries.
MOVED = 5
# A statistic is among the moved ones from this many baseline standard deviations on.
MOVED_EFFECT = 0.3
# Changes are told in standard deviations up to so many.
MOST_TOLD = 30.0


def column(bins: Bins, name: str, of: str) -> Array:
    """Bin means (K, width) of a column. Raises IncomparableError where it is absent or not finite."""
    if name not in bins.columns:
        raise IncomparableError(f"the summary of {of} has no column {name!r}")
    means = bins.columns[name] / bins.count[:, None].astype(np.float64)
    if not np.isfinite(means).all():
        raise IncomparableError(f"column {name!r} of the summary of {of} holds NaN or infinity")
    return means


def sides(context: Context, current: Summary, name: str, most: int) -> tuple[Array, Array]:
    """Bin means of a column of baseline and window, both (K, width), with the same K ≤ `most`.

    Neighbouring bins are joined on the side that has more, so that unequal noise of the two sides' bins leaves a
    permutation of bins valid (Janssen 1997 for the problem; equal numbers are its simplest cure).
    """
    k = min(most, len(context.summary.bins.count), len(current.bins.count))
    reference = column(schema_bins.level(context.summary.bins, k), name, f"the {current.modality} baseline")
    return _checked(reference, schema_bins.level(current.bins, k), name, current.modality)


def _checked(reference: Array, window: Bins, name: str, modality: str) -> tuple[Array, Array]:
    means = column(window, name, modality)
    if reference.shape[1] != means.shape[1]:
        raise IncomparableError(
            f"column {name!r} of {modality} has {means.shape[1]} values, its baseline {reference.shape[1]}"
        )
    return reference, means


# A baseline is used with up to so many times the window's bins: more add next to no evidence.
MOST_TIMES = 8


def alike(reference: Bins, window: Bins, most: int) -> tuple[Bins, Bins]:
    """Both sides' bins joined to about equally many rows each, at most `most` on the side with fewer rows.

    Bins of one size are exchangeable under the null even where one side has many more of them, which equal numbers of
    unequal bins are not quite: their unequal noise made tests of few columns reject twice as often as they should. Of
    surplus bins every so many are used. Where one side's bins are too large for that, both get equally many.
    """
    sides = reference, window
    k = min(most, len(reference.count), len(window.count))
    rows = min(side.rows for side in sides) / max(1, k)
    wanted = [round(side.rows / rows) if k else 0 for side in sides]
    if any(len(side.count) < number for side, number in zip(sides, wanted, strict=True)):
        wanted = [k, k]
    joined = [schema_bins.level(side, number) for side, number in zip(sides, wanted, strict=True)]
    one, other = (_spread(side, MOST_TIMES * k) for side in joined)
    return one, other


def _spread(bins: Bins, most: int) -> Bins:
    """At most `most` of the bins, evenly over them."""
    if len(bins.count) <= most:
        return bins
    chosen = np.arange(most) * len(bins.count) // most
    return Bins(bins.count[chosen], {name: sums[chosen] for name, sums in bins.columns.items()})


def alike_sides(context: Context, current: Summary, name: str, most: int) -> tuple[Array, Array]:
    """Bin means of a column of baseline and window, (K, width) and (L, width), of bins that are `alike`."""
    column(current.bins, name, current.modality)
    reference, window = alike(context.summary.bins, current.bins, most)
    return _checked(column(reference, name, f"the {current.modality} baseline"), window, name, current.modality)


def row_sd(bins: Bins, name: str, of: str) -> Array:
    """Standard deviation of single rows (width,), estimated from how bin means of independent rows scatter.

    Never zero: a constant column counts as spread over a thousandth of its size, so that a change of it is large but
    finite.
    """
    means = column(bins, name, of)
    centre = bins.total(name) / bins.rows
    floor = np.maximum(1e-3 * np.abs(centre), 1e-9)
    if len(means) < 2:
        return floor
    variance = (bins.count[:, None] * (means - centre) ** 2).sum(axis=0) / (len(means) - 1)
    sd: Array = np.maximum(np.sqrt(variance), floor)
    return sd


def welch(reference: Array, window: Array) -> Array:
    """Two-sided p-values (width,) of equal means of two sets of bin means (K, width), K ≥ 2; 1 for constants.

    Welch's t-test: it takes no equal variance, and bin means of several rows are near normal. Source: Welch (1947).
    """
    sizes = len(reference), len(window)
    # sums are stored in single precision: differences below that are none
    largest = np.maximum(np.abs(reference).max(axis=0), np.abs(window).max(axis=0))
    grain = (1e-6 * np.maximum(largest, 1e-12)) ** 2
    parts = [side.var(axis=0, ddof=1) / n + grain for side, n in zip((reference, window), sizes, strict=True)]
    variance = parts[0] + parts[1]
    df = variance**2 / sum(part**2 / (n - 1) for part, n in zip(parts, sizes, strict=True))
    t = (window.mean(axis=0) - reference.mean(axis=0)) / np.sqrt(variance)
    p: Array = 2 * student_t.sf(np.abs(t), df)
    return p


def moved_statistics(context: Context, current: Summary, alpha: float) -> list[dict[str, Any]]:
    """Quality statistics that moved, the largest standardised change first; empty where there are none to look at."""
    if "quality" not in current.bins.columns or "quality" not in context.summary.bins.columns:
        return []
    reference, window = sides(context, current, "quality", 32)
    if len(reference) < 2:
        return []
    before = context.summary.bins.total("quality") / context.summary.bins.rows
    after = current.bins.total("quality") / current.bins.rows
    effects = (after - before) / row_sd(context.summary.bins, "quality", current.modality)
    p_values = welch(reference, window) * len(effects)
    found: list[dict[str, Any]] = [
        {
            "statistic": name,
            "effect": round(float(effects[i]), 3),
            "baseline": float(before[i]),
            "window": float(after[i]),
            "p_value": float(min(1.0, p_values[i])),
        }
        for i, name in enumerate(names(context, len(effects)))
        if abs(effects[i]) >= MOVED_EFFECT and p_values[i] <= alpha
    ]
    return sorted(found, key=lambda each: -abs(each["effect"]))[:MOVED]


def names(context: Context, width: int) -> Sequence[str]:
    """Names of the quality statistics, by number where the baseline has not as many."""
    known = context.quality_names
    return known if len(known) == width else [f"statistic {i}" for i in range(width)]


def told(moved: Sequence[dict[str, Any]]) -> str:
    """The moved statistics in words: "brightness fell by 2.1 sd, noise rose by 1.3 sd".

    Where the baseline hardly scatters, standard deviations say nothing to anybody: "unknown share rose from 0 to 0.2".
    """
    words = []
    for each in moved[:3]:
        way, far = "rose" if each["effect"] > 0 else "fell", abs(each["effect"])
        how = f"by {far:.1f} sd" if far <= MOST_TOLD else f"from {each['baseline']:.2g} to {each['window']:.2g}"
        words.append(f"{each['statistic'].replace('_', ' ')} {way} {how}")
    return ", ".join(words)

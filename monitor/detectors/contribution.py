"""Contribution: does the model still go by each of its inputs as much as it did?

On a sample of batches the worker exchanges one modality at a time for that of another request with another predicted
class, and runs the fusion step again. What is lost of the predicted class's confidence is what that modality
contributed: 0 where the model does not look at it, below 0 where its own value speaks against the prediction.

With y the sum of losses and x the number of measured rows of each of K bins, a side's contribution is the ratio
R = Σy / Σx, and its variance K / (K - 1) · Σ(y - R x)² / (Σx)², the delta method for a ratio of totals over clusters
(Cochran 1977, Sampling Techniques, chapter 6). Change: R of the window less R of the baseline, held against Welch's t
(1947) with K - 1 degrees of freedom a side, its p-value multiplied by the number of modalities (Bonferroni). Drift: a
contribution fell or rose by `effect` or more, and so says the test.

Units: shares of confidence, in [-1, 1]; words tell points, hundredths of it. Assumes that near-duplicates lie in
neighbouring bins, and that partners are as different as in the baseline: where requests come in long sessions of one
user, take a baseline of traffic. Classes contribute unequally, so that another mix of them moves it too: by least
squares over the baseline's bins (see `_within`) the words then say what that mix alone explains.

>>> from migrations.schema.bins import from_rows
>>> from monitor.detectors.base import judge
>>> from monitor.domain.window import Reference, Summary
>>> def fused(image, text):
...     return Summary("fused", {}, from_rows({"contribution": np.tile([image, text, 1.0], (800, 1))}, 8))
>>> names = {"image": Summary("image"), "text": Summary("text")}
>>> known = Reference(1, "1", {**names, "fused": fused(0.30, 0.45)})
>>> print(judge(DETECTOR, "fused", known, fused(0.02, 0.45)).explanation)
The model hardly goes by the image any more: it contributes 2.0 points of confidence, in the baseline 30.0 (p < 1e-15).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from migrations.schema import bins as schema_bins
from migrations.schema.bins import Bins
from monitor.detectors._binned import Array, column
from monitor.detectors._within import FEWEST_BINS_A_CLASS
from monitor.detectors.base import Context, Detector, Score, Takes, in_words
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, IncomparableError, Summary

HARDLY = 0.25  # of what it contributed before: below, the model is said to hardly go by it
LITTLE = 0.25  # of a change: where no more is left of it within classes, the class mix explains it
WIDEST = 0.5  # standard deviation of a loss where nothing is known of it: half of its range


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha` over all modalities; `effect` in shares of confidence; measured rows and bins with any a side needs."""

    alpha: float = 0.0005
    effect: float = 0.15
    min_rows: int = 100
    min_bins: int = 8
    bins: int = 32


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """`rows` measured in `bins` joined bins; mean loss and its variance, both (modalities,)."""

    rows: int
    bins: int
    mean: Array
    variance: Array


def run(context: Context, current: Summary, options: Options) -> Score:
    """Judge what each modality contributes. `value` and `interval` are of the one that moved most, `effect` how far."""
    before = _side(context.summary, f"the {current.modality} baseline", options.bins)
    after = _side(current, current.modality, options.bins)
    if before.mean.shape != after.mean.shape:
        raise IncomparableError(
            f"column 'contribution' of {current.modality} is of {len(after.mean)} modalities, its baseline of "
            f"{len(before.mean)}"
        )
    names, change = _names(context, len(after.mean)), after.mean - before.mean
    furthest = int(np.abs(change).argmax())
    if min(before.rows, after.rows) < options.min_rows or min(before.bins, after.bins) < options.min_bins:
        return _insufficient(before, after, options)
    p_values = np.minimum(1.0, len(names) * _welch(before, after))
    sure = (np.abs(change) >= options.effect) & (p_values <= options.alpha)
    moved = [int(i) for i in np.argsort(-np.abs(change)) if sure[i]]
    foretold = _by_class_mix(context.summary.bins, current.bins) if moved else None
    return Score(
        Verdict.DRIFT if moved else Verdict.OK,
        _told(names, before.mean, after.mean, moved, foretold, float(p_values.min())),
        value=float(after.mean[furthest]),
        p_value=float(p_values.min()),
        effect=float(abs(change[furthest])),
        interval=_interval(after, furthest),
        threshold=options.effect,
        n_reference=before.rows,
        n_current=after.rows,
        details={
            "contributions": {
                name: {
                    "baseline": float(before.mean[i]),
                    "window": float(after.mean[i]),
                    "interval": list(_interval(after, i)),
                    "p_value": float(p_values[i]),
                }
                for i, name in enumerate(names)
            }
        },
    )


def _rows(summary: Summary) -> int:
    """Measured rows; what is not finite is refused later, with its reason."""
    known = summary.bins.columns.get("contribution")
    return 0 if known is None else int(np.nansum(known[:, -1]))


def _side(summary: Summary, of: str, most: int) -> _Side:
    column(summary.bins, "contribution", of)  # refuses what is not finite
    sums = summary.bins.columns["contribution"]
    some = sums[:, -1] > 0
    measured = Bins(sums[some, -1].astype(np.int32), {"contribution": sums[some]})
    joined = schema_bins.level(measured, most).columns["contribution"].astype(np.float64)
    lost, count = joined[:, :-1], joined[:, -1:]
    total, k = float(count.sum()), len(joined)
    mean = lost.sum(axis=0) / total
    residuals = lost - mean * count
    variance = np.square(residuals).sum(axis=0) / total**2 * (k / max(1, k - 1))
    return _Side(round(total), k, mean, variance)


def _welch(before: _Side, after: _Side) -> Array:
    """Two-sided p-values (modalities,) of no change."""
    # sums are stored in single precision: differences below that are none
    grain = (1e-6 * np.maximum(1e-6, np.maximum(np.abs(before.mean), np.abs(after.mean)))) ** 2
    parts = [(side.variance + grain, side.bins - 1) for side in (before, after)]
    variance = parts[0][0] + parts[1][0]
    df = variance**2 / sum(part**2 / k for part, k in parts)
    p: Array = 2 * student_t.sf(np.abs(after.mean - before.mean) / np.sqrt(variance), df)
    return p


def _interval(side: _Side, i: int) -> tuple[float, float]:
    """95%, by Student's t over bins, cut to what is possible."""
    half = float(student_t.isf(0.025, side.bins - 1)) * math.sqrt(side.variance[i])
    mean = float(side.mean[i])
    return max(-1.0, mean - half), min(1.0, mean + half)


def _names(context: Context, width: int) -> Sequence[str]:
    """Modalities in the order of the column, by number where the baseline has not as many."""
    known = sorted(context.reference.summaries.keys() - {FUSED})
    return known if len(known) == width else [f"modality {i + 1}" for i in range(width)]


def _by_class_mix(reference: Bins, window: Bins) -> Array | None:
    """What the baseline's classes would contribute in the window's mix, (modalities,); None where bins cannot tell."""
    if any("classes" not in bins.columns for bins in (reference, window)):
        return None
    known, count, lost = _parts(reference)
    seen, weight, _ = _parts(window)
    classes = known.sum(axis=0) > 0
    if known.shape[1] != seen.shape[1] or len(known) < FEWEST_BINS_A_CLASS * int(classes.sum()):
        return None
    # a bin's loss scatters with the number of its rows
    root = np.sqrt(count)[:, None]
    means, *_ = np.linalg.lstsq(known[:, classes] * root, lost / root, rcond=None)
    foretold: Array = weight @ seen[:, classes] @ means / weight.sum()
    return foretold


def _parts(bins: Bins) -> tuple[Array, Array, Array]:
    """Of bins with measured rows: class shares (K, classes), measured rows (K,), losses (K, modalities)."""
    sums = bins.columns["contribution"].astype(np.float64)
    some = sums[:, -1] > 0
    return column(bins, "classes", FUSED)[some], sums[some, -1], sums[some, :-1]


def _told(
    names: Sequence[str], before: Array, after: Array, moved: Sequence[int], foretold: Array | None, p_value: float
) -> str:
    if not moved:
        parts = [f"the {name} {_points(after[i])} ({_points(before[i])})" for i, name in enumerate(names)]
        return (
            f"Each input contributes to the confidence as in the baseline, in points: {', '.join(parts)}; "
            f"{in_words(p_value)}."
        )
    words = []
    for i in moved:
        if after[i] > before[i]:
            how = f"leans more on the {names[i]}"
        elif after[i] < HARDLY * before[i]:
            how = f"hardly goes by the {names[i]} any more"
        else:
            how = f"goes less by the {names[i]}"
        words.append(
            f"{how}: it contributes {_points(after[i])} points of confidence, in the baseline {_points(before[i])}"
        )
    left = None if foretold is None else np.abs(after - foretold)[moved] / np.abs(after - before)[moved]
    explained = left is not None and max(left) < LITTLE
    mix = "; the mix of predicted classes, which moved too, would explain it" if explained else ""
    return f"The model {'; it '.join(words)} ({in_words(p_value)}){mix}."


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _insufficient(before: _Side, after: _Side, options: Options) -> Score:
    z = float(norm.isf(options.alpha / len(after.mean) / 2) + norm.isf(0.2))
    # rows' spread, with what sessions add to it, where bins of the baseline tell
    enough = before.bins >= options.min_bins
    spread = math.sqrt(float(before.variance.max()) * before.rows) if enough else WIDEST
    visible = min(1.0, z * spread * math.sqrt(1 / before.rows + 1 / after.rows))
    return Score(
        Verdict.INSUFFICIENT,
        f"{after.rows} measured requests against {before.rows} are too few to judge contributions: at best a change of "
        f"{_points(visible)} points of confidence could have been seen.",
        threshold=options.effect,
        n_reference=before.rows,
        n_current=after.rows,
    )


DETECTOR = Detector("contribution", Takes.FUSED, Options, run, _rows)

"""Estimated accuracy, without labels: how often would answers of such confidence have been right in the baseline?

Value: Σ_b h_b m(b) / Σ h_b, in share of answers. h counts the window's answers by confidence, m(b) is the share right
in the baseline at that confidence, made non-decreasing by isotonic regression (pool adjacent violators, Ayer et al.
1955), interpolated where the baseline had no answers. The interval (95%) is a percentile bootstrap of baseline rows
and of the window's bins, so that sessions count as what they are.
It takes for granted that an answer of given confidence is right as often as it was. What changes the meaning of inputs
(a relabelled concept) leaves confidence alone: the estimate is blind to it, and too high by all the answers that are
now wrong (measured, `tests/bench/bench_calibration.py`: 8 points with 10% of right answers relabelled, 24 with 30%).
Without shift or under one of the mix of inputs it is within 0.3 points on average; where hard inputs are also answered
worse than such were, about 5 too high.
It is a trend: drift only where a `target` is set and the whole interval lies below. `p_value` is one-sided, of no fall
below the baseline's own accuracy; `effect` is that fall.

In the baseline half of the answers were 25% sure and right in 1 of 4, half 75% sure and right in 3 of 4; now all are
75% sure:

>>> import numpy as np
>>> from migrations.schema.bins import from_rows
>>> from monitor.detectors.base import catalogue, judge
>>> from monitor.domain.window import Reference, Summary
>>> before = Summary("fused", {}, from_rows({"confidence": np.eye(2)[np.arange(800) % 2]}, 8))
>>> known = Reference(1, "1", {"fused": before}, confidence=(400, 400), confidence_correct=(100, 300))
>>> window = Summary("fused", {}, from_rows({"confidence": np.eye(2)[np.ones(800, int)]}, 8))
>>> judge(catalogue()["estimated_accuracy"], "fused", known, window).value
0.75
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import norm

from monitor.detectors._binned import column
from monitor.detectors.base import Context, Detector, Score, Takes
from monitor.domain.finding import Verdict
from monitor.domain.window import IncomparableError, Summary

Array = NDArray[np.float64]

CAVEAT = "An estimate by confidence alone: it cannot see that the right answers themselves have changed"


@dataclass(frozen=True, slots=True)
class Options:
    """`target` accuracy, None for none; answers of the window and labelled baseline rows that are needed."""

    target: float | None = None
    min_rows: int = 100
    min_labelled: int = 100
    resamples: int = 200
    seed: int = 0


def _rows(summary: Summary) -> int:
    return summary.bins.rows if "confidence" in summary.bins.columns else 0


def isotonic_map(count: Array, right: Array) -> Array:
    """Share right (B,) by confidence bin, non-decreasing; `count` and `right` are rows and right rows, (B,) each."""
    seen = np.flatnonzero(count > 0)
    if len(seen) == 0:
        raise ValueError("no rows to learn from")
    fitted = isotonic_regression(right[seen] / count[seen], weights=count[seen]).x
    everywhere: Array = np.interp(np.arange(len(count)), seen, fitted)
    return everywhere


def run(context: Context, current: Summary, options: Options) -> Score:
    """Estimate the accuracy of a window."""
    count = np.array(context.reference.confidence, np.float64)
    right = np.array(context.reference.confidence_correct, np.float64)
    column(current.bins, "confidence", "the window")
    window = current.bins.columns["confidence"].astype(np.float64)
    if count.sum() == 0:
        return Score(
            Verdict.NO_BASELINE,
            "The baseline has no labelled rows, so that accuracy cannot be estimated without labels.",
            n_current=current.bins.rows,
        )
    if len(count) != window.shape[1] or len(right) != len(count):
        raise IncomparableError(
            f"confidences in {window.shape[1]} bins cannot be read by a baseline's in {len(count)} and {len(right)}"
        )
    value = _estimate(isotonic_map(count, right), window.sum(axis=0))
    drawn = _bootstrap(count, right, window, options)
    low, high = (float(each) for each in np.quantile(drawn, [0.025, 0.975]))
    before, error = float(right.sum() / count.sum()), max(float(drawn.std(ddof=1)), 1e-9)
    few = current.bins.rows < options.min_rows or count.sum() < options.min_labelled
    below = options.target is not None and high < options.target
    verdict = Verdict.INSUFFICIENT if few else Verdict.DRIFT if below else Verdict.OK
    words = (
        f"Accuracy is estimated at {value:.1%} ({low:.1%} to {high:.1%}) without labels, {before:.1%} in the baseline"
    )
    if few:
        words = (
            f"{current.bins.rows} answers and {count.sum():.0f} labelled baseline rows are too few to estimate "
            f"accuracy from confidence: it would lie between {low:.0%} and {high:.0%}"
        )
    elif options.target is not None:
        words += f", target {options.target:.1%}"
    return Score(
        verdict,
        f"{words}. {CAVEAT}.",
        value=value,
        p_value=float(norm.sf((before - value) / error)),
        effect=before - value,
        interval=(min(low, value), max(high, value)),
        threshold=options.target,
        n_reference=int(count.sum()),
        n_current=current.bins.rows,
        details={"baseline": before, "estimate": True, "caveat": CAVEAT},
    )


def _estimate(accuracy: Array, window: Array) -> float:
    return float((accuracy * window).sum() / window.sum())


def _bootstrap(count: Array, right: Array, window: Array, options: Options) -> Array:
    rng = np.random.default_rng(options.seed)
    rows, n_bins = int(count.sum()), len(window)
    cells = rng.multinomial(rows, np.concatenate([right, count - right]) / rows, options.resamples)
    chosen = rng.multinomial(n_bins, np.full(n_bins, 1 / n_bins), options.resamples) @ window
    drawn = [
        _estimate(isotonic_map(right_rows + wrong_rows, right_rows), seen)
        for right_rows, wrong_rows, seen in zip(
            cells[:, : len(count)].astype(np.float64), cells[:, len(count) :].astype(np.float64), chosen, strict=True
        )
    ]
    return np.array(drawn)


DETECTOR = Detector("estimated_accuracy", Takes.FUSED, Options, run, _rows)

"""Calibration: does confidence match the share of answers that are right?

Value: expected calibration error over equal-mass bins, debiased (Kumar, Liang and Ma 2019), with a 95% basic bootstrap
interval (answers drawn again within each bin). Evidence: two tests of the hypothesis that each answer is right with
probability equal to its confidence, doubled smaller p-value:
 signed gap z   Σ(y - c) / √Σ c(1 - c): over- or underconfidence as a whole
 Spiegelhalter z   Σ(y - c)(1 - 2c) / √Σ (1 - 2c)² c(1 - c)  (Spiegelhalter 1986): errors that cancel in the former
ECE alone decides nothing: at few labels it is large on calibrated models too. Assumes independent labelled answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from monitor.detectors.base import Context, Detector, Score, Takes, in_words, labelled_rows
from monitor.domain.finding import Verdict
from monitor.domain.reliability import ReliabilityBin, calibration_error, reliability_bins
from monitor.domain.window import Labelled

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `threshold` of ECE; fewer than `min_rows` labels decide nothing; `resamples` of the bootstrap."""

    alpha: float = 0.001
    threshold: float = 0.05
    min_rows: int = 500
    resamples: int = 500
    seed: int = 0


def gap_z(confidence: Array, correct: NDArray[np.bool_]) -> float:
    """Signed calibration gap in standard errors, negative where the model is overconfident; (N,) each, N ≥ 1."""
    variance = float((confidence * (1 - confidence)).sum())
    return _ratio(float((correct - confidence).sum()), variance)


def spiegelhalter_z(confidence: Array, correct: NDArray[np.bool_]) -> float:
    """Spiegelhalter's z of the Brier score; (N,) each, N ≥ 1."""
    weight = 1 - 2 * confidence
    return _ratio(
        float(((correct - confidence) * weight).sum()), float((weight**2 * confidence * (1 - confidence)).sum())
    )


def _ratio(total: float, variance: float) -> float:
    """Total over its standard deviation; certain answers have none, so that one mistake among them counts fully."""
    return total / math.sqrt(max(variance, 1e-6))


def brier(confidence: Array, correct: NDArray[np.bool_]) -> float:
    """Mean squared difference of confidence and truth, of the predicted class, in [0, 1]."""
    return float(((correct - confidence) ** 2).mean())


def _interval(bins: tuple[ReliabilityBin, ...], ece: float, options: Options) -> tuple[float, float]:
    """Basic bootstrap: 2·ECE minus the resampled quantiles, cut to [0, 1]."""
    rng = np.random.default_rng(options.seed)
    usable = [each for each in bins if each.count > 1]
    count = np.array([each.count for each in usable])
    accuracy = rng.binomial(count, [each.accuracy for each in usable], (options.resamples, len(usable))) / count
    confidence = np.array([each.confidence for each in usable])
    squared = (accuracy - confidence) ** 2 - accuracy * (1 - accuracy) / (count - 1)
    drawn = (np.sqrt(np.maximum(0, squared)) * count).sum(axis=1) / count.sum()
    low, high = np.quantile(drawn, [0.025, 0.975])
    return max(0.0, min(ece, 2 * ece - float(high))), min(1.0, max(ece, 2 * ece - float(low)))


def run(_: Context, current: Labelled, options: Options) -> Score:
    """Judge the calibration of labelled answers; no baseline is needed: truth is."""
    confidence, correct = current.confidence.astype(np.float64), current.correct.astype(np.bool_)
    n = len(confidence)
    bins = reliability_bins(confidence, correct)
    ece = calibration_error(bins)
    if n < options.min_rows or ece is None:
        return Score(
            Verdict.INSUFFICIENT,
            f"{n} labels are too few to judge calibration; {options.min_rows} are needed.",
            threshold=options.threshold,
            n_current=n,
        )
    scores = {"gap_z": gap_z(confidence, correct), "spiegelhalter_z": spiegelhalter_z(confidence, correct)}
    p_value = min(1.0, 2 * min(2 * float(norm.sf(abs(z))) for z in scores.values()))
    gap = float(correct.mean() - confidence.mean())
    drift = p_value <= options.alpha and ece >= options.threshold
    way = "overconfident" if gap < 0 else "underconfident"
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        f"Confidence {'does not match' if drift else 'matches'} accuracy: ECE is {ece:.1%} over {n} labelled answers, "
        f"{way} by {abs(gap):.1%} ({in_words(p_value)}).",
        value=ece,
        p_value=p_value,
        effect=ece,
        interval=_interval(bins, ece, options),
        threshold=options.threshold,
        n_current=n,
        details={**scores, "gap": gap, "brier": brier(confidence, correct), "patterns": _by_pattern(current)},
    )


def _by_pattern(current: Labelled) -> dict[str, Any]:
    """Rows, ECE and gap by presence pattern: a missing modality changes confidence."""
    if current.pattern is None:
        return {}
    found = {}
    for pattern in np.unique(current.pattern):
        here = current.pattern == pattern
        confidence, correct = current.confidence[here], current.correct[here]
        found[str(pattern)] = {
            "rows": int(here.sum()),
            "ece": calibration_error(reliability_bins(confidence, correct)),
            "gap": float(correct.mean() - confidence.mean()),
        }
    return found


DETECTOR = Detector("calibration", Takes.LABELS, Options, run, labelled_rows, needs_baseline=False)

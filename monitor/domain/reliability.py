"""The reliability diagram: how often answers of a given confidence are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from migrations.schema.calibration_error import GROUPS, Groups, debiased
from monitor.domain.intervals import wilson

BINS = GROUPS


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Answers of similar confidence: mean confidence, share right with its 95% Wilson interval, and how many."""

    low: float
    high: float
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    count: int


def reliability_bins(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Equal-mass bins of N answers, by confidence; fewer where N < `bins`, none where N = 0.

    `confidence` is (N,) in [0, 1], `correct` (N,) of bool. Equal mass rather than equal width: confident models leave
    most bins of equal width nearly empty.
    """
    scores: NDArray[np.float64] = np.asarray(confidence, np.float64)
    right: NDArray[np.bool_] = np.asarray(correct, np.bool_)
    order = np.argsort(scores, kind="stable")
    return tuple(_bin(scores[part], right[part]) for part in np.array_split(order, bins) if len(part))


def _bin(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> ReliabilityBin:
    low, high = wilson(int(right.sum()), len(right))
    return ReliabilityBin(
        low=float(scores[0]),
        high=float(scores[-1]),
        confidence=float(scores.mean()),
        accuracy=float(right.mean()),
        accuracy_low=low,
        accuracy_high=high,
        count=len(right),
    )


def calibration_error(bins: tuple[ReliabilityBin, ...]) -> float | None:
    """Debiased expected calibration error in [0, 1] as `migrations.schema.calibration_error` defines it.

    None without a bin of two answers. The plain estimate shows 4-5 points on a perfectly calibrated model at 200
    answers.
    """
    usable = [each for each in bins if each.count > 1]
    if not usable:
        return None
    count = np.array([each.count for each in usable], np.float64)
    confidence, accuracy = (np.array([getattr(each, name) for each in usable]) for name in ("confidence", "accuracy"))
    return float(debiased(Groups(confidence, accuracy, count / count.sum(), count)))

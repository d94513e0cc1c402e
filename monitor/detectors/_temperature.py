"""Would another temperature make confidences honest? A proposal, only where it is known to help."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from migrations.schema.calibration_error import debiased_ece
from monitor.domain.intervals import Z95

Array = NDArray[np.float64]

FEWEST_ROWS = 200
FEWEST_WRONG = 10
LOWEST, HIGHEST = 0.05, 20.0
# Smaller probabilities are rounding of single precision, and their logarithm would outweigh everything.
SMALLEST = 1e-7


@dataclass(frozen=True, slots=True)
class Proposal:
    """Multiply the temperature in use by `temperature`, 95% `interval`.

    `gain` is what that saves in nats of log loss an answer on answers that it was not fitted on, with its 95%
    `gain_interval`; `ece_after` the debiased ECE that would have been. `proposed` only where both intervals agree that
    it helps.
    """

    temperature: float
    interval: tuple[float, float]
    gain: float
    gain_interval: tuple[float, float]
    ece_after: float
    proposed: bool

    def told(self) -> dict[str, Any]:
        """For a finding's details."""
        return asdict(self)


def refit(log_probabilities: Array, truth: NDArray[np.intp]) -> float:
    """The temperature in [0.05, 20] that minimises log loss; (N, C) and the true class numbers (N,).

    Log loss is convex in 1/T: its slope Σ(E z - z_true) has one zero. Source: Guo et al. 2017, arXiv:1706.04599.
    """

    def slope(inverse: float) -> float:
        return float(_slopes(log_probabilities, truth, inverse)[0].sum())

    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(low) >= 0:
        return HIGHEST
    if slope(high) <= 0:
        return LOWEST
    return 1 / float(brentq(slope, low, high, xtol=1e-6))


def proposal(
    confidence: Array,
    correct: NDArray[np.bool_],
    probabilities: Array | None = None,
    truth: NDArray[np.intp] | None = None,
) -> Proposal | None:
    """What a re-fit would do, of N answers in order of time; None where they are too few to tell.

    With `probabilities` (N, C) and `truth` (N,) the whole distribution is scaled; else the top class against the rest,
    which is the same for two classes. Each half in time is judged at the temperature of the other, so that
    near-duplicates of one session cannot praise their own fit. The interval of T is that of a maximum-likelihood
    estimate with the variance that the rows show (White 1982).
    """
    if len(confidence) < FEWEST_ROWS or min((~correct).sum(), correct.sum()) < FEWEST_WRONG:
        return None
    if probabilities is None or truth is None:
        probabilities, truth = np.stack([confidence, 1 - confidence], axis=1), (~correct).astype(np.intp)
        top = np.zeros(len(confidence), np.intp)
    else:
        top = probabilities.argmax(axis=1)
    z = np.log(np.clip(probabilities, SMALLEST, 1.0))
    halves = np.array_split(np.arange(len(z)), 2)
    gains = np.concatenate(
        [
            _loss(z[judged], truth[judged], 1.0) - _loss(z[judged], truth[judged], refit(z[fitted], truth[fitted]))
            for fitted, judged in (halves, halves[::-1])
        ]
    )
    temperature = refit(z, truth)
    slopes, curvature = _slopes(z, truth, 1 / temperature)
    error = Z95 * math.sqrt(float((slopes**2).sum())) / max(float(curvature.sum()), 1e-12)
    interval = tuple(1 / min(1 / LOWEST, max(1 / HIGHEST, 1 / temperature + way * error)) for way in (1, -1))
    gain, spread = float(gains.mean()), Z95 * float(gains.std(ddof=1)) / math.sqrt(len(gains))
    after = _softmax(z, 1 / temperature)[np.arange(len(z)), top]
    helps = gain - spread > 0 and not interval[0] <= 1 <= interval[1]
    return Proposal(
        temperature,
        (interval[0], interval[1]),
        gain,
        (gain - spread, gain + spread),
        debiased_ece(after, correct),
        helps,
    )


def _softmax(z: Array, inverse: float) -> Array:
    scaled = inverse * z
    e = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    p: Array = e / e.sum(axis=1, keepdims=True)
    return p


def _slopes(z: Array, truth: NDArray[np.intp], inverse: float) -> tuple[Array, Array]:
    """First and second derivative of each row's log loss by 1/T, (N,) each."""
    p = _softmax(z, inverse)
    mean = (p * z).sum(axis=1)
    return mean - z[np.arange(len(z)), truth], (p * z * z).sum(axis=1) - mean**2


def _loss(z: Array, truth: NDArray[np.intp], temperature: float) -> Array:
    loss: Array = -np.log(np.maximum(_softmax(z, 1 / temperature)[np.arange(len(z)), truth], SMALLEST))
    return loss

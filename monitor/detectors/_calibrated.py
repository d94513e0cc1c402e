"""One test of calibration out of two: the signed gap and Spiegelhalter's z, by their joint law."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

Array = NDArray[np.float64]

# Groups that answers of nearly equal confidence are drawn in; up to so many answers the draws are exact.
GROUPS = 256
DRAWS = 1999
# Expected Σ c(1 - c) from which the normal law is good enough: some hundred answers that could have gone either way.
ENOUGH = 100.0


@dataclass(frozen=True, slots=True)
class Tested:
    """`p_value` of the hypothesis that each answer is right with probability equal to its confidence."""

    p_value: float
    gap_z: float
    spiegelhalter_z: float
    drawn: bool


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


def smallest_gap(confidence: Array, alpha: float, power: float = 0.8) -> float:
    """The overall gap in [0, 1] that the gap's z would find with that power; (N,)."""
    error = math.sqrt(max(float((confidence * (1 - confidence)).sum()), 1e-6)) / len(confidence)
    return min(1.0, float(norm.isf(alpha / 2) + norm.ppf(power)) * error)


def joint_test(confidence: Array, correct: NDArray[np.bool_], *, seed: int = 0) -> Tested:
    """Both sums together, of answers (N,), N ≥ 1.

    Under the hypothesis x = (Σ(y - c), Σ(y - c)(1 - 2c)) has mean 0 and a known covariance V, so that x V⁻¹ x is χ²
    with two degrees of freedom: no doubling of the smaller p-value is needed.

    Where few mistakes are to be expected the normal law is poor: then answers are drawn from the hypothesis itself
    (Barnard 1963), and beyond the draws the p-value goes on falling as χ² does.
    """
    order = np.argsort(confidence, kind="stable")
    starts = np.array([part[0] for part in np.array_split(np.arange(len(order)), GROUPS) if len(part)])
    c, y = confidence[order], correct[order].astype(np.float64)
    count = np.diff(np.append(starts, len(order)))
    mean = np.clip(np.add.reduceat(c, starts) / count, 0.0, 1.0)
    variance = np.add.reduceat(c * (1 - c), starts)
    slope = 1 - 2 * mean
    design = np.stack([np.ones_like(slope), slope])
    covariance = (design * variance) @ design.T
    # certain answers have no variance: one mistake among them must count, and agreement must not divide by nothing
    inverse = np.linalg.inv(covariance + 1e-6 * np.eye(2))
    low, high = np.linalg.eigvalsh(covariance)
    df = 2 if low > 1e-4 * high else 1

    def distance(right: Array) -> Array:
        sums = (right - count * mean) @ design.T
        found: Array = np.einsum("...i,ij,...j->...", sums, inverse, sums)
        return found

    seen = float(distance(np.add.reduceat(y, starts)))
    p_value = float(chi2.sf(seen, df))
    few = float(variance.sum()) < ENOUGH
    if few:
        rng = np.random.default_rng(seed)
        one_by_one = count.max() == 1  # a comparison then does, at a tenth of the cost
        shape = (DRAWS, len(count))
        draws = rng.random(shape) < mean if one_by_one else rng.binomial(count, mean, shape)
        drawn = distance(draws.astype(np.float64))
        # ties are met where few answers could have gone either way
        beyond = int((drawn >= seen * (1 - 1e-9)).sum())
        floor = 1 / (DRAWS + 1)
        tail = p_value / max(float(chi2.sf(drawn.max(), df)), 1e-300)
        p_value = (1 + beyond) / (DRAWS + 1) if beyond else floor * min(1.0, tail)
    return Tested(p_value, gap_z(confidence, correct), spiegelhalter_z(confidence, correct), few)

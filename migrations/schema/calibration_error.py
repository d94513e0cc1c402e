"""Expected calibration error: a figure that both programs write and that is compared across them.

A training result carries it (`jobs.result`), the gate holds it against a limit, and the monitor's findings show it
before and after: it must be one estimator. NumPy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

GROUPS = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """B groups of answers of similar confidence, each field (B,), or (..., B) for many such sets at once.

    `confidence` and `accuracy` are means in [0, 1]; `weight` is the group's share of all answers and adds up to 1;
    `rows` is how many answers of equal weight tell as much as the group's own.
    """

    confidence: Floats
    accuracy: Floats
    weight: Floats
    rows: Floats

    @property
    def spread(self) -> Floats:
        """Accuracy that sampling noise is computed from: two answers' worth nearer to the confidence.

        A group whose answers are all right would seem free of noise, which it is only where confidence is 1 as well.
        """
        spread: Floats = (self.rows * self.accuracy + 2 * self.confidence) / (self.rows + 2)
        return spread


def equal_mass(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], groups: int = GROUPS, weight: Floats | None = None
) -> Groups:
    """N ≥ 1 answers in groups of equal numbers by confidence; fewer groups where N < `groups`.

    `confidence` (N,) in [0, 1], `correct` (N,). `weight` (N,) > 0 says how many answers each stands for, by default
    one. Raises ValueError on no answers.
    """
    n = len(confidence)
    if n == 0:
        raise ValueError("no answers have no calibration")
    order = np.argsort(confidence, kind="stable")
    starts = np.array([part[0] for part in np.array_split(np.arange(n), groups) if len(part)])
    w = np.ones(n) if weight is None else np.asarray(weight, np.float64)[order]
    mass = np.add.reduceat(w, starts)

    def mean(values: Floats) -> Floats:
        means: Floats = np.add.reduceat(w * values, starts) / mass
        return means

    return Groups(
        mean(np.asarray(confidence, np.float64)[order]),
        mean(np.asarray(correct, np.float64)[order]),
        mass / mass.sum(),
        mass**2 / np.add.reduceat(w * w, starts),
    )


def absolute_gaps(groups: Groups) -> Floats:
    """How far accuracy lies from confidence in each group, (..., B), without what sampling noise adds.

    Were a group split in halves at random, the sign of one half's gap times the gap of the other would estimate the
    size of the true gap with an expectation of zero where there is none: the halves' errors are independent. This is
    its mean over all splits of a gap g that is normal with standard error s: g(2Φ(g/s) - 1) - 2sφ(g/s). It can be
    negative. The idea of debiasing: Kumar, Liang and Ma 2019, arXiv:1909.10155; their root of each group's debiased
    square stays above zero by a third of the noise.
    """
    return _without_noise(groups.accuracy - groups.confidence, _error(groups))


def debiased(groups: Groups) -> Floats:
    """Debiased expected calibration error in [0, 1], (...): the groups' gaps, weighted by their share of answers.

    It is at least the size of the overall gap where that is beyond chance (fully from three standard errors on, not
    at all below two): over- or underconfidence that all groups share would else drown in the noise of each.
    """
    gap = (groups.weight * (groups.accuracy - groups.confidence)).sum(axis=-1)
    error = np.sqrt((groups.weight**2 * _error(groups) ** 2).sum(axis=-1))
    beyond = np.clip(np.divide(np.abs(gap), error, out=np.full_like(gap, np.inf), where=error > 0) - 2, 0, 1)
    overall = beyond * _without_noise(gap, error)
    gaps = (groups.weight * absolute_gaps(groups)).sum(axis=-1)
    found: Floats = np.minimum(np.maximum(overall, gaps).clip(0.0) + 0.0, 1)  # + 0.0: never a negative zero
    return found


def _error(groups: Groups) -> Floats:
    error: Floats = np.sqrt(groups.spread * (1 - groups.spread) / groups.rows)
    return error


def _without_noise(gap: Floats, error: Floats) -> Floats:
    gap, error = np.asarray(gap, np.float64), np.asarray(error, np.float64)
    z = np.divide(gap, error, out=np.zeros_like(gap), where=error > 0)
    sign = np.array([math.erf(each / math.sqrt(2)) for each in z.ravel()]).reshape(z.shape)
    found = gap * sign - 2 * error * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return np.where(error > 0, found, np.abs(gap))


def debiased_ece(confidence: NDArray[np.floating], correct: NDArray[np.bool_], groups: int = GROUPS) -> float:
    """Debiased expected calibration error of N ≥ 1 answers over groups of equal numbers.

    Example: a model that is always 80% sure and right in 40 of 100 answers is off by 40 points.

    >>> round(debiased_ece(np.full(100, 0.8), np.arange(100) % 5 < 2, groups=1), 3)
    0.4
    """
    return float(debiased(equal_mass(confidence, correct, groups)))


def bootstrap_interval(groups: Groups, *, level: float, resamples: int, seed: int) -> tuple[float, float]:
    """Reverse-percentile interval of the debiased error, cut to [0, 1] and stretched to hold the estimate."""
    found = float(debiased(groups))
    rows = np.maximum(1, np.round(groups.rows)).astype(np.int64)
    world = groups.spread
    drawn = np.random.default_rng(seed).binomial(rows, world, (resamples, len(rows))) / rows
    errors = debiased(Groups(groups.confidence, drawn, groups.weight, groups.rows))
    true = float((groups.weight * np.abs(world - groups.confidence)).sum())
    low, high = np.quantile(errors - true, [(1 - level) / 2, (1 + level) / 2])
    # the error is at least the overall gap, so that it can be as large as that can
    gap = abs(float((groups.weight * (groups.accuracy - groups.confidence)).sum()))
    spread = math.sqrt(float((groups.weight**2 * world * (1 - world) / groups.rows).sum()))
    reach = gap + NormalDist().inv_cdf((1 + level) / 2) * spread
    return max(0.0, min(found, found - float(high))), min(1.0, max(found, found - float(low), reach))

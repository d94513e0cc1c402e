"""Labels as a sample of all answers: which count, how many answers each stands for, and shares estimated from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.domain.intervals import Z95, share_interval
from monitor.domain.window import Labelled

Array = NDArray[np.float64]

# Routes of answers from every modality: those whose confidences a window's summary holds.
WHOLE = ("fused", "cached")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """`rows` (n,) of the labels that are used and their `weight` (n,), 1 on average; whether they are `weighted`."""

    rows: NDArray[np.intp]
    weight: Array
    weighted: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share, and how many answers of a plain sample would tell it as well."""

    value: float
    rows: float

    def interval(self, z: float = Z95) -> tuple[float, float]:
        """Wilson's interval at that many rows, by default of 95%."""
        return share_interval(self.value, self.rows, z)


def sample(current: Labelled) -> Sample:
    """The labels that can be taken together, weighted by the inverse of their sampling probability where it is known.

    Labels with a probability and labels without cannot be combined: nobody knows how the latter were chosen. Where
    both came, those that tell more are used: the larger effective number (Kish 1965, Σw² rule).
    """
    everything = np.arange(len(current.confidence))
    if current.sampling is None or not np.isfinite(current.sampling).any():
        return Sample(everything, np.ones(len(everything)), False)
    known = np.isfinite(current.sampling)
    weight = 1 / current.sampling[known]
    if effective_rows(weight) < (~known).sum():
        return Sample(np.flatnonzero(~known), np.ones(int((~known).sum())), False)
    return Sample(np.flatnonzero(known), weight / weight.mean(), True)


def effective_rows(weight: Array) -> float:
    """(Σw)² / Σw²: as many equal weights tell as much, where weights have nothing to do with the values (Kish 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def hajek(values: Array, weight: Array) -> Estimate:
    """The weighted share of values (n,) in [0, 1], n ≥ 1, with the variance of a ratio (Hájek 1971).

    Without weights it is the plain share of n rows.
    """
    mean = float((weight * values).sum() / weight.sum())
    variance = float((weight**2 * (values - mean) ** 2).sum() / weight.sum() ** 2)
    return Estimate(mean, _rows(mean, variance, weight))


@dataclass(frozen=True, slots=True)
class Powered:
    """A prediction-powered estimate: its `tuning` λ, and by what share its interval is `narrower` than without."""

    estimate: Estimate
    tuning: float
    narrower: float


def powered(right: Array, confidence: Array, whole: NDArray[np.bool_], weight: Array, answers: Array) -> Powered | None:
    """Accuracy from labels and the confidences of all answers: PPI++ with a tuned λ.

    θ = mean(y - λg), where g = f - E f for answers from every modality and 0 for others; f is the middle of the
    confidence's bin, so that labels and histogram agree exactly. E f is known from `answers` (B,), rows by
    confidence; λ = Cov(y, g) / (Var g + the variance of E f) gives the smallest variance, and λ = 0 is the estimate by
    labels alone. `right`, `confidence`, `whole`, `weight` are (n,). None where there is nothing to gain by.
    The answers' histogram counts the labelled ones too, which leaves the interval a little too wide, never too narrow.
    Source: Angelopoulos, Duchi and Zrnic 2023, PPI++, arXiv:2311.01453, section 6; weights as in regression estimation.
    """
    total = float(answers.sum())
    if total <= 0 or not whole.any():
        return None
    middles = (np.arange(len(answers)) + 0.5) / len(answers)
    mean = float((answers * middles).sum() / total)
    spread = float((answers * (middles - mean) ** 2).sum() / total)
    fine = np.clip((confidence * len(answers)).astype(np.int64), 0, len(answers) - 1)
    g = np.where(whole, middles[fine] - mean, 0.0)
    share = weight / weight.sum()
    y_part, g_part = (share * (values - (share * values).sum()) for values in (right, g))
    among = float((share * whole).sum()) ** 2 * spread / total
    denominator = float((g_part**2).sum()) + among
    if denominator <= 0:
        return None
    tuning = float((y_part * g_part).sum()) / denominator
    value = min(1.0, max(0.0, float((share * (right - tuning * g)).sum())))
    variance = float(((y_part - tuning * g_part) ** 2).sum()) + tuning**2 * among
    before, estimate = hajek(right, weight), Estimate(value, _rows(value, variance, weight))
    return Powered(estimate, tuning, 1 - (before.rows / estimate.rows) ** 0.5)


def _rows(mean: float, variance: float, weight: Array) -> float:
    binomial = mean * (1 - mean)
    # all right or all wrong: the values tell nothing about their variance
    return max(1.0, binomial / variance) if min(binomial, variance) > 1e-12 else max(1.0, effective_rows(weight))


def selection(current: Labelled, chosen: Sample) -> dict[str, Any]:
    """How the labels used came to be, for a finding's details."""
    n = len(current.confidence)
    return {
        "labels": n,
        "used": len(chosen.rows),
        "weighted": chosen.weighted,
        "effective_rows": round(effective_rows(chosen.weight), 1),
        "answered": current.answered,
        "label_share": None if not current.answered else min(1.0, n / current.answered),
    }


def of_share(current: Labelled) -> str:
    """In words, what part of all answers the labels are: " (2.4% of all answers)"; empty where it is not known."""
    return f" ({min(1.0, len(current.confidence) / current.answered):.1%} of all answers)" if current.answered else ""

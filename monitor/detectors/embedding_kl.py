"""Gaussian Kullback-Leibler divergence of two samples of embeddings: how far apart are mean and covariance?

Of the leading p principal scores of both samples together, in nats, current from reference:
    KL = ½ [tr(S⁻¹T) + δ'S⁻¹δ - p + log |S| / |T|],   δ difference of means, S and T covariances, reference and current.
The plain estimate grows with p / n even where nothing moved, so it is debiased by a grouped jackknife (Quenouille
1956; Efron and Stein 1981), one group of neighbouring bins left out at a time: no Gaussian law of the rows is needed,
and near-duplicates that share a bin do not count as many rows. The interval is the jackknife's. A divergence is no
less than zero: below that the estimate is cut, and `details["debiased"]` tells it.

Null: bins of 8 neighbouring rows change sides; the scores are fitted on both samples as one set. It is an effect size
beside `embedding_mmd`, which sees more than mean and covariance. Summaries do not hold the scores' covariance (the
frozen features are mixed and cut), so it reads rows; `embedding_mmd` tells the divergence of means alone.

>>> import numpy as np
>>> from monitor.detectors import compare
>>> rows = np.random.default_rng(0).normal(size=(2000, 2))
>>> round(compare("embedding_kl", rows[:1000], rows[1000:] + [1.0, 0.0]).value, 1)  # ½ · 1²
0.5
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.detectors._aggregated import contrasts
from monitor.detectors._embedding_rows import Q, bin_rows
from monitor.detectors._pooled import principal
from monitor.detectors.base import Context, Detector, Rows, Score, Takes, current_rows, in_words
from monitor.domain.finding import Verdict

Array = NDArray[np.float64]

GROUPS = 32  # of the jackknife, a side
MOST_BINS = 512


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `threshold` in nats; `directions` at most, fewer where rows are few; `permutations`."""

    alpha: float = 0.05
    threshold: float = 0.1
    directions: int = 16
    permutations: int = 999
    min_bins: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.directions < 1 or self.permutations < 1 or self.min_bins < 2:
            raise ValueError("directions and permutations must be 1 or more, min_bins 2 or more")


def gaussian_kl(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> Array:
    """Nats by which the second Gaussian departs from the first; (..., p) means and (..., p, p) covariances."""
    p = mean.shape[-1]
    delta = (other_mean - mean)[..., None]
    solved = np.linalg.solve(covariance, np.concatenate([other_covariance, delta], axis=-1))
    trace = np.trace(solved[..., :p], axis1=-2, axis2=-1)
    far = (delta[..., 0] * solved[..., p]).sum(axis=-1)
    logs = np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(other_covariance)[1]
    kl: Array = (trace + far - p + logs) / 2
    return kl


def run(_: Context, current: Rows, options: Options) -> Score:
    """Judge the second sample against the first."""
    sizes = n, m = len(current.reference), len(current.current)
    q = bin_rows(*sizes, most=MOST_BINS)
    k, other = n // q, m // q
    if min(k, other) < options.min_bins:
        text = f"{m} rows against {n} are too few to judge: {options.min_bins} bins of {Q} rows a side are needed."
        return Score(Verdict.INSUFFICIENT, text, threshold=options.threshold, n_reference=n, n_current=m)
    rows = np.concatenate([current.reference[: k * q], current.current[: other * q]])
    # a covariance of few rows is hardly one: eight rows a direction, and its inverse is of some use
    white = _white(rows, min(options.directions, q * min(k, other) // 8))
    if not white.shape[1]:
        text = "All rows of both sides are alike."
        return Score(Verdict.OK, text, 0.0, 1.0, 0.0, (0.0, 0.0), options.threshold, n, m)
    moments = _moments(white, q)
    plain = float(_divergence(moments[:k].mean(axis=0), moments[k:].mean(axis=0)))
    debiased, se = _jackknife(moments[:k], moments[k:], plain)
    value = max(0.0, debiased)
    labels = contrasts(k, other, options.permutations, options.seed)[1:] > 0
    moved = (labels @ moments) / other
    null = _divergence((moments.sum(axis=0) - other * moved) / k, moved)
    p_value = float((1 + (null >= plain - 1e-12).sum()) / (1 + len(null)))
    drift = p_value <= options.alpha and value >= options.threshold
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        f"Mean and covariance of the leading {white.shape[1]} principal scores are {value:.3f} nats from the "
        f"reference ({in_words(p_value)}), {plain:.3f} before what chance adds is taken away.",
        value=value,
        p_value=p_value,
        effect=value,
        interval=(max(0.0, debiased - 1.96 * se), max(0.0, debiased + 1.96 * se)),
        threshold=options.threshold,
        n_reference=n,
        n_current=m,
        details={"plain": plain, "debiased": debiased, "directions": white.shape[1], "rows_a_bin": q},
    )


def _white(rows: NDArray[np.float32], most: int) -> Array:
    mean = rows.mean(axis=0, dtype=np.float64)
    basis, spread = principal(rows, mean)
    kept = spread[:most] > 1e-4 * max(spread[0], 1e-2 * float(np.abs(rows).max()))
    white: Array = (rows - mean) @ (basis[:, :most][:, kept] / spread[:most][kept])
    return white


def _moments(white: Array, q: int) -> Array:
    """Means over each bin of the p scores and of their products, (K, p + p²)."""
    p = white.shape[1]
    products = (white[:, :, None] * white[:, None, :]).reshape(len(white), p * p)
    moments: Array = np.hstack([white, products]).reshape(-1, q, p + p * p).mean(axis=1)
    return moments


def _divergence(reference: Array, window: Array) -> Array:
    """KL from moments (..., p + p²)."""
    p = int(((4 * reference.shape[-1] + 1) ** 0.5 - 1) / 2)
    parts = []
    for moments in (reference, window):
        mean = moments[..., :p]
        product = moments[..., p:].reshape(*mean.shape, p)
        # pooled scores have variance one: a direction in which one side is constant gives a large, finite divergence
        parts += [mean, product - mean[..., :, None] * mean[..., None, :] + 1e-6 * np.eye(p)]
    return gaussian_kl(*parts)


def _jackknife(reference: Array, window: Array, plain: float) -> tuple[float, float]:
    """Debiased divergence and its standard error, from bins' moments."""
    value, variance = plain, 0.0
    sides = (reference, window)
    for side, bins in enumerate(sides):
        groups = np.array_split(np.arange(len(bins)), min(GROUPS, len(bins)))
        rest = np.stack([np.delete(bins, group, axis=0).mean(axis=0) for group in groups])
        other = np.broadcast_to(sides[1 - side].mean(axis=0), rest.shape)
        left_out = _divergence(rest, other) if side == 0 else _divergence(other, rest)
        g = len(groups)
        value -= (g - 1) * float(left_out.mean() - plain)
        variance += (g - 1) / g * float(np.square(left_out - left_out.mean()).sum())
    return value, variance**0.5


DETECTOR = Detector("embedding_kl", Takes.ROWS, Options, run, current_rows, needs_baseline=False)

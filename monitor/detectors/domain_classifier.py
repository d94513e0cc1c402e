"""Domain classifier: can a classifier tell current rows from reference rows?

A linear discriminant on the leading whitened principal scores and their squares is fitted on four fifths of the bins
and scores the rows of the last fifth, in turn. Value: area under the ROC curve of those held-out scores, 0.5 where the
samples cannot be told apart. Effect: 2·AUC - 1. Interval and one-sided p-value: the normal law of the Mann-Whitney
statistic (DeLong et al. 1988), with bins of 8 neighbouring rows in place of rows, so that near-duplicates of a session
neither leak from fit to test nor pass for evidence. Assumes bins are independent.
Sources: Friedman 2003 for the idea; Lopez-Paz and Oquab 2017, arXiv:1610.06545. It reads rows, not summaries.

>>> import numpy as np
>>> from monitor.detectors import compare
>>> rows = np.random.default_rng(0).normal(size=(800, 4))
>>> compare("domain_classifier", rows[:400], rows[400:] + 1).verdict.value
'drift'
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from monitor.detectors._pooled import whitened
from monitor.detectors.base import Context, Detector, Rows, Score, Takes, current_rows, in_words
from monitor.domain.finding import Verdict

Array = NDArray[np.float64]

Q = 8
RIDGE = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `threshold` of the AUC; `directions` at most; `folds` of the cross-validation; `min_bins` a side."""

    alpha: float = 0.05
    threshold: float = 0.55
    directions: int = 64
    folds: int = 5
    min_bins: int = 10

    def __post_init__(self) -> None:
        if self.directions < 1 or self.folds < 2 or self.min_bins < self.folds:
            raise ValueError("directions must be 1 or more, folds 2 or more, min_bins no fewer than folds")


def auc(reference: Array, current: Array) -> tuple[float, Array, Array]:
    """Area under the ROC curve of scores (N,) and (M,), ties count half; and each row's share of the others below it.

    The shares, (N,) of current rows above and (M,) of reference rows below, both have the area as their mean.
    """
    n, m = len(reference), len(current)
    ranks = rankdata(np.concatenate([reference, current]))
    above = 1 - (ranks[:n] - rankdata(reference)) / m
    below = (ranks[n:] - rankdata(current)) / n
    return float(below.mean()), above, below


def run(_: Context, current: Rows, options: Options) -> Score:
    """Judge the second sample against the first."""
    sizes = n, m = len(current.reference), len(current.current)
    bins = [np.arange(size) // Q for size in sizes]
    if min(sizes) < Q * options.min_bins:
        text = f"{m} rows against {n} are too few to judge: {options.min_bins} bins of {Q} rows a side are needed."
        return Score(Verdict.INSUFFICIENT, text, threshold=options.threshold, n_reference=n, n_current=m)
    x = _columns(np.concatenate([current.reference, current.current]), options.directions)
    side = np.repeat([False, True], sizes)
    fold = np.concatenate(bins) % options.folds
    scores = np.zeros(n + m)
    for held in range(options.folds):
        fit, test = fold != held, fold == held
        direction, middle = _discriminant(x[fit & ~side], x[fit & side])
        scores[test] = (x[test] - middle) @ direction
    area, above, below = auc(scores[:n], scores[n:])
    se = math.sqrt(sum(_mean_variance(part, of) for part, of in zip((above, below), bins, strict=True)))
    p_value = float(norm.sf((area - 0.5) / se)) if se > 0 else 0.0 if area > 0.5 else 1.0
    drift = p_value <= options.alpha and area >= options.threshold
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        f"A classifier {'tells' if drift else 'does not tell'} current rows from reference rows: its AUC on rows it "
        f"was not fitted on is {area:.3f} ({in_words(p_value)}).",
        value=area,
        p_value=p_value,
        effect=2 * area - 1,
        interval=(max(0.0, area - 1.96 * se), min(1.0, area + 1.96 * se)),
        threshold=options.threshold,
        n_reference=n,
        n_current=m,
        details={"columns": x.shape[1]},
    )


def _columns(rows: NDArray[np.float32], most: int) -> Array:
    """Whitened leading scores (cut at 5) and their squares; one constant column where all rows are alike."""
    white = whitened(rows, min(most, max(1, len(rows) // 20)))
    return np.hstack([white, np.square(white) - 1]) if white.shape[1] else np.zeros((len(rows), 1))


def _discriminant(reference: Array, current: Array) -> tuple[Array, Array]:
    """Fisher's direction (p,) with a ridge, and the point (p,) half way between the means."""
    means = [part.mean(axis=0) for part in (reference, current)]
    scatter = sum((part - mean).T @ (part - mean) for part, mean in zip((reference, current), means, strict=True))
    covariance = scatter / (len(reference) + len(current)) + RIDGE * np.eye(reference.shape[1])
    direction: Array = np.linalg.solve(covariance, means[1] - means[0])
    return direction, (means[0] + means[1]) / 2


def _mean_variance(values: Array, bin_of: NDArray[np.intp]) -> float:
    """Variance of the mean of values (N,) whose bins are independent."""
    totals = np.bincount(bin_of, values - values.mean())
    return float(np.square(totals).sum()) / len(values) ** 2


DETECTOR = Detector("domain_classifier", Takes.ROWS, Options, run, current_rows, needs_baseline=False)

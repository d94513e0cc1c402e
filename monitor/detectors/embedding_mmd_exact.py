"""Exact maximum mean discrepancy of two samples of embeddings: have they come from one distribution?

    MMD² = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),   k(a, b) = exp(-‖a - b‖² / 2σ²)
with σ the median distance of two pooled rows, or the `bandwidth` given (Gretton et al. 2012, JMLR 13). Value: the
unbiased estimate, pairs of a row with itself left out, which may be below zero; `details["biased"]` has them in.
Effect: √ of it. Both are without unit and at most √2. Interval: normal, from the witness function's
scatter by bins and the null's spread.

Null: whole bins of neighbouring rows change sides, 8 rows unless `rows_a_bin` says otherwise; 1 permutes rows and is
right for independent rows only. A last bin with fewer rows counts for what it has.

The Gram matrix is never held: each of its tiles above the diagonal meets the label columns of all permutations in one
matrix product. It reads rows, not summaries: for notebooks, samples, and as the oracle of `embedding_mmd`.

>>> import numpy as np
>>> from monitor.detectors import compare
>>> rows = np.random.default_rng(0).normal(size=(400, 4))
>>> compare("embedding_mmd_exact", rows[:200], rows[200:] + 0.5).verdict.value
'drift'
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.detectors.base import Context, Detector, Rows, Score, Takes, current_rows, in_words
from monitor.domain.finding import Verdict

Array = NDArray[np.float64]
Single = NDArray[np.float32]

TILE = 1024
MEDIAN_OF = 2000  # rows whose pairs the median distance is taken of; all of them where there are no more


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `permutations`; `rows_a_bin` that change sides together; `bandwidth` σ, None for the median distance.

    Below `min_bins` bins on either side nothing is decided; an `effect` √MMD² below that given is no drift.
    """

    alpha: float = 0.05
    permutations: int = 499
    rows_a_bin: int = 8
    bandwidth: float | None = None
    effect: float = 0.0
    min_bins: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows_a_bin < 1 or self.permutations < 1 or self.min_bins < 2:
            raise ValueError("rows_a_bin and permutations must be 1 or more, min_bins 2 or more")
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ValueError("bandwidth must be above 0, or None for the median distance")


@dataclass(frozen=True, slots=True)
class Exact:
    """`unbiased` and `biased` MMD², each (1 + permutations,), the true labels first; `witness` of the N rows."""

    unbiased: Array
    biased: Array
    witness: Array


def median_distance(rows: Single) -> float:
    """Median distance of two of the (N, d) rows; of 2000 of them, spread over the sorted rows, where N is larger."""
    some = rows
    if len(rows) > MEDIAN_OF:
        order = np.lexsort(rows.T[:4])
        some = rows[order[np.linspace(0, len(rows) - 1, MEDIAN_OF).astype(np.intp)]]
    squares = np.square(some).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * some @ some.T, 0)
    return math.sqrt(float(np.median(distances[np.triu_indices(len(some), 1)]))) if len(some) > 1 else 0.0


def exact_mmd(rows: Single, labels: Single, bandwidth: float) -> Exact:
    """MMD² of the (N, d) rows under each column of `labels` (N, P), 1 for the first sample and 0 for the second."""
    n = len(rows)
    squares = np.square(rows).sum(axis=1)
    columns = np.hstack([labels, np.ones((n, 1), np.float32)])  # the last one gives row sums
    sums = np.zeros((n, columns.shape[1]), np.float64)
    scale = np.float32(-0.5 / bandwidth**2)
    for i in range(0, n, TILE):
        here = slice(i, i + TILE)
        for j in range(i, n, TILE):
            there = slice(j, j + TILE)
            tile = rows[here] @ rows[there].T
            tile *= -2
            tile += squares[here, None]
            tile += squares[there]
            np.maximum(tile, 0, out=tile)
            tile *= scale
            np.exp(tile, out=tile)
            if i == j:
                np.fill_diagonal(tile, 0)
            sums[here] += tile @ columns[there]
            if i != j:
                sums[there] += tile.T @ columns[here]
    return _estimates(labels, sums)


def _estimates(labels: Single, sums: Array) -> Exact:
    """From sums over the others of the kernel with each row, (N, P + 1), to the estimates."""
    n = len(labels)
    first = labels.sum(axis=0, dtype=np.float64)
    second = n - first
    of_rows = sums[:, -1]
    xx = np.einsum("np,np->p", labels, sums[:, :-1])
    xy = np.einsum("np,n->p", labels, of_rows) - xx
    yy = of_rows.sum() - xx - 2 * xy
    cross = 2 * xy / (first * second)
    unbiased = xx / np.maximum(first * (first - 1), 1) + yy / np.maximum(second * (second - 1), 1) - cross
    biased = (xx + first) / first**2 + (yy + second) / second**2 - cross
    # what a row has in common with the first sample, less with the second, itself left out
    mine = labels[:, 0].astype(np.float64)
    x, y = np.maximum(first[0] - mine, 1), np.maximum(second[0] - 1 + mine, 1)
    return Exact(unbiased, biased, sums[:, 0] / x - (of_rows - sums[:, 0]) / y)


def run(_: Context, current: Rows, options: Options) -> Score:
    """Judge the second sample against the first."""
    rows = np.concatenate([current.reference, current.current])
    sizes = n, m = len(current.reference), len(current.current)
    bins = [-(-size // options.rows_a_bin) for size in sizes]
    # centred and of size one, squares lose less to rounding; the kernel is the same
    rows = rows - rows.mean(axis=0)
    size = float(np.sqrt(np.square(rows, dtype=np.float64).mean())) or 1.0
    rows = rows / np.float32(size)
    bandwidth = options.bandwidth / size if options.bandwidth else median_distance(rows)
    if min(bins) < options.min_bins or min(sizes) < 2:
        text = (
            f"{m} rows against {n} are too few to judge in bins of {options.rows_a_bin}: "
            f"{options.min_bins} bins a side are needed."
        )
        return Score(Verdict.INSUFFICIENT, text, n_reference=n, n_current=m)
    if bandwidth <= 1e-3:
        text = "Most rows are alike, so that their median distance is no bandwidth: give one."
        return Score(Verdict.INSUFFICIENT, text, n_reference=n, n_current=m)
    bin_of = [np.arange(size) // options.rows_a_bin for size in sizes]
    found = exact_mmd(rows, _labels(bins, np.concatenate([bin_of[0], bins[0] + bin_of[1]]), options), bandwidth)
    value, null = float(found.unbiased[0]), found.unbiased[1:]
    p_value = float((1 + (null >= value - 1e-7).sum()) / (1 + len(null)))
    linear = sum(
        4 * _mean_variance(part, which) for part, which in zip(np.split(found.witness, [n]), bin_of, strict=True)
    )
    se = math.sqrt(linear + float(null.var()))
    effect = math.sqrt(max(0.0, value))
    drift = p_value <= options.alpha and effect >= options.effect
    words = "differ" if drift else "do not differ more than chance would have it"
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        f"The two samples {words}: MMD² is {value:.4g} at a bandwidth of {bandwidth * size:.3g} ({in_words(p_value)}).",
        value=value,
        p_value=p_value,
        effect=effect,
        interval=(value - 1.96 * se, value + 1.96 * se),
        threshold=options.effect,
        n_reference=n,
        n_current=m,
        details={
            "biased": float(found.biased[0]),
            "bandwidth": bandwidth * size,
            "rows_a_bin": options.rows_a_bin,
            "null_mean": float(null.mean()),
            "null_sd": float(null.std()),
        },
    )


def _labels(bins: list[int], bin_of: NDArray[np.intp], options: Options) -> Single:
    """(N, 1 + permutations): 1 where a row is in the first sample; the true labels first."""
    true = np.repeat(np.array([1, 0], np.float32), bins)
    rng = np.random.default_rng(options.seed)
    drawn = rng.permuted(np.tile(true[:, None], (1, options.permutations)), axis=0)
    return np.hstack([true[:, None], drawn])[bin_of]


def _mean_variance(values: Array, bin_of: NDArray[np.intp]) -> float:
    """Variance of the mean of values (N,) whose bins are independent."""
    totals = np.bincount(bin_of, values - values.mean())
    return float(np.square(totals).sum()) / len(values) ** 2


DETECTOR = Detector("embedding_mmd_exact", Takes.ROWS, Options, run, current_rows, needs_baseline=False)

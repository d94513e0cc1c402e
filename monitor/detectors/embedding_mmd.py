"""Embedding drift: have the embeddings of a modality moved, in mean, spread or shape?

Statistic: squared distance between window mean and baseline mean of the frozen features, over the leading 4, 8,
16 ... r of their principal directions; each is made comparable by the mean and standard deviation of its cube root
over permutations (Wilson and Hilferty 1931: that root is near normal), and the largest counts. The features see more
than means, so this is a maximum mean discrepancy aggregated over kernels (Gretton et al. 2012; Schrab et al. 2023).

Null: whole bins change sides, so that near-duplicates of one session, which share a bin, do not pass for evidence.
Both sides are levelled to equally many bins first; weights of directions come from the frozen map, not from the two
samples. Either way of doing it otherwise was seen to flag drift-free windows whose rows come in sessions.

Value and effect: debiased distance between the means, in standard deviations of baseline rows, over the directions
where the evidence was strongest. Assumes bins are exchangeable: sessions much longer than a bin are not caught by it.

`compare` gives it two arrays instead (`_embedding_rows`): what it looks at is then fitted on both samples as one set,
and neighbouring bins are joined where they turn out to share sessions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from monitor.detectors._binned import Array, moved_statistics, sides, told
from monitor.detectors.base import Context, Detector, Score, Takes, binned_rows, in_words
from monitor.domain.finding import Verdict
from monitor.domain.window import Summary


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha` and `permutations` (p is at least 1/(permutations + 1)); `effect` in baseline standard deviations.

    Below `min_rows` rows or `min_bins` bins on either side nothing is decided; at most `bins` bins a side are used:
    few, as sessions that do not begin where bins do spread over two, and many small bins would then flag them.
    """

    alpha: float = 0.0002  # all windows share one baseline sample: an odd one must not flag them all
    permutations: int = 9999
    effect: float = 0.25
    min_rows: int = 100
    min_bins: int = 8
    bins: int = 16
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Test:
    """Result of the permutation test: `p_value`, the squared debiased distance and over how many `directions`."""

    p_value: float
    squared_effect: float
    directions: int
    standardised: float


@lru_cache(maxsize=32)
def _contrasts(bins: int, permutations: int, seed: int) -> NDArray[np.float32]:
    """(1 + permutations, 2 × bins): the true labels first; a row times the bins is a difference of means."""
    true = np.repeat(np.array([-1, 1], np.float32) / bins, bins)
    shuffled = np.random.default_rng(seed).permuted(np.tile(true, (permutations, 1)), axis=1)
    return np.vstack([true, shuffled])


def bin_permutation_test(reference: Array, window: Array, permutations: int = 9999, seed: int = 0) -> Test:
    """The aggregated test on bin means, both (K, r) with the same K ≥ 2 and unit-variance columns, leading first."""
    k, r = reference.shape
    together = np.vstack([reference, window])
    together -= together.mean(axis=0)
    differences = _contrasts(k, permutations, seed) @ together.astype(np.float32)
    sizes = [size for size in (4, 8, 16, 32, 64, 128, 256) if size < r] + [r]
    nested = np.add.reduceat(np.square(differences), [0, *sizes[:-1]], axis=1).cumsum(axis=1, dtype=np.float64)
    roots = np.cbrt(nested)
    spread = roots.std(axis=0)
    standard = (roots - roots.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    largest = standard.max(axis=1)
    best = int(standard[0].argmax())
    # rounding must not break a tie with the true labels
    reached = int((largest[1:] >= largest[0] - 1e-6).sum())
    noise = (reference.var(axis=0, ddof=1) + window.var(axis=0, ddof=1))[: sizes[best]].sum() / k
    squared = float(nested[0, best] - noise)
    return Test((1 + reached) / (1 + permutations), squared, sizes[best], float(largest[0]))


def detectable(n_reference: int, n_current: int, directions: int, alpha: float) -> float:
    """The smallest effect found with power 0.8 by one test over `directions` directions of independent rows."""
    z = float(norm.isf(alpha) + norm.isf(0.2))
    return math.sqrt(z * math.sqrt(2 * directions) * (1 / n_reference + 1 / n_current))


def run(context: Context, current: Summary, options: Options) -> Score:
    """Judge one modality's window against its baseline.

    Example: two windows of one distribution give a `p_value` above `alpha` in 9998 of 10,000 cases, and `ok`.
    """
    n_reference, n_current = context.summary.bins.rows, current.bins.rows
    reference, window = sides(context, current, "features", options.bins)
    visible = detectable(n_reference, n_current, reference.shape[1], options.alpha)
    if min(n_reference, n_current) < options.min_rows or len(reference) < options.min_bins:
        return Score(
            Verdict.INSUFFICIENT,
            f"{n_current} rows against {n_reference} are too few to judge {current.modality} embeddings: at best a "
            f"shift of {visible:.1f} baseline standard deviations could have been seen.",
            threshold=options.effect,
            n_reference=n_reference,
            n_current=n_current,
            details={"detectable": visible},
        )
    test = bin_permutation_test(reference, window, options.permutations, options.seed)
    effect = math.sqrt(max(0.0, test.squared_effect))
    drift = test.p_value <= options.alpha and effect >= options.effect
    moved = moved_statistics(context, current, options.alpha) if drift else []
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        _explain(current.modality, drift, effect, test.p_value, told(moved), visible),
        value=effect,
        p_value=test.p_value,
        effect=effect,
        threshold=options.effect,
        n_reference=n_reference,
        n_current=n_current,
        details={
            "squared_distance": test.squared_effect,
            # of two Gaussians of equal covariance in those directions, nats
            "gaussian_kl": max(0.0, test.squared_effect) / 2,
            "moved": moved,
            "directions": test.directions,
            "standardised": test.standardised,
            "bins": len(reference),
            "detectable": visible,
        },
    )


def _explain(modality: str, drift: bool, effect: float, p_value: float, why: str, visible: float) -> str:
    if not drift:
        return (
            f"No drift of {modality} embeddings: they are {effect:.2f} baseline standard deviations from the baseline "
            f"({in_words(p_value)}); a shift of {visible:.2f} would probably have been seen."
        )
    reason = f"; most of all, {why}" if why else "; no quality statistic moved with them"
    return (
        f"The {modality} embeddings have moved by {effect:.2f} baseline standard deviations ({in_words(p_value)})"
        f"{reason}."
    )


DETECTOR = Detector("embedding_mmd", Takes.EMBEDDING, Options, run, binned_rows)

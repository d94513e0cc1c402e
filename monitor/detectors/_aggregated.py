"""The aggregated permutation test: several ways of looking for a difference of means, one p-value.

A family of columns (N bins, width) is looked at over nested leading parts (ridge-like: each further direction adds
noise, and may add evidence), by its largest single column, or over all columns at their natural scale. Each statistic
becomes comparable by the mean and standard deviation of its cube root over permutations (Wilson and Hilferty 1931:
that root of a sum of squares is near normal); the largest counts. The same is done to every permutation, so that the
p-value holds for the maximum. Source: Schrab et al. 2023, MMD aggregated two-sample test, JMLR 24.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Bin pairs times permutations that are worked on at once: 32 MB of contrasts.
AT_ONCE = 8_000_000


@dataclass(frozen=True, slots=True)
class Family:
    """Columns that belong together: `name`, bin means (N, width), and where to look.

    `sizes` are the leading parts looked at; with `largest` the single column that moved most is looked at too.
    """

    name: str
    bins: Array
    sizes: tuple[int, ...]
    largest: bool = False


@dataclass(frozen=True, slots=True)
class Tested:
    """`p_value`; the `family` and number of `directions` with the strongest evidence, and how strong (`standardised`).

    `chosen` are the columns of that family that it was found in. `by_family` (families,) are the p-values of each
    family by itself, adjusted for there being several: how often the largest of all is as large as that family's
    (single-step maxT, Westfall and Young 1993).
    """

    p_value: float
    family: int
    directions: int
    standardised: float
    chosen: NDArray[np.intp]
    by_family: Array


def halving(width: int, least: int = 4) -> tuple[int, ...]:
    """4, 8, 16 ... up to the width, which is always the last."""
    sizes = []
    while least < width:
        sizes.append(least)
        least *= 2
    return (*sizes, width)


@lru_cache(maxsize=8)
def contrasts(reference: int, window: int, permutations: int, seed: int) -> NDArray[np.float32]:
    """(1 + permutations, reference + window): the true labels first; a row times the bins is a difference of means."""
    true = np.concatenate([np.full(reference, -1 / reference), np.full(window, 1 / window)]).astype(np.float32)
    shuffled = np.random.default_rng(seed).permuted(np.tile(true, (permutations, 1)), axis=1)
    return np.vstack([true, shuffled])


def test(families: Sequence[Family], reference: int, permutations: int, seed: int) -> Tested:
    """Test whether the first `reference` bins and the others, at least two each, have the same means."""
    window = len(families[0].bins) - reference
    labels = contrasts(reference, window, permutations, seed)
    centred = [np.asarray(each.bins - each.bins.mean(axis=0), np.float32) for each in families]
    step = max(1, AT_ONCE // max(each.bins.shape[1] for each in families))
    parts = []
    for start in range(0, len(labels), step):
        drawn = labels[start : start + step]
        parts.append(np.hstack([_statistics(drawn @ bins, each) for each, bins in zip(families, centred, strict=True)]))
    roots = np.cbrt(np.vstack(parts))
    spread = roots.std(axis=0)
    standard = (roots - roots.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    best = int(standard[0].argmax())
    largest = standard.max(axis=1)
    looks = [(number, size) for number, each in enumerate(families) for size in (*each.sizes, *([1] * each.largest))]
    family, size = looks[best]
    owner = np.array([number for number, _ in looks])
    own = np.array([standard[0, owner == number].max() for number in range(len(families))])
    # rounding must not break a tie with the true labels
    reached = (largest[1:, None] >= own - 1e-6).sum(axis=0)
    by_family = (1 + reached) / (1 + permutations)
    moved = np.abs(labels[0] @ centred[family])
    single = families[family].largest and best == sum(n <= family for n, _ in looks) - 1
    chosen = np.array([int(moved.argmax())]) if single else np.arange(size)
    return Tested(float(by_family[family]), family, size, float(largest[0]), chosen, by_family)


def _statistics(differences: NDArray[np.float32], family: Family) -> Array:
    squares = np.square(differences)
    found = np.add.reduceat(squares, [0, *family.sizes[:-1]], axis=1).cumsum(axis=1, dtype=np.float64)
    return np.column_stack([found, squares.max(axis=1)]) if family.largest else found


@dataclass(frozen=True, slots=True)
class Distance:
    """Debiased squared distance of two means, and an approximate 95% interval of the distance itself."""

    squared: float
    interval: tuple[float, float]


def distance(reference: Array, window: Array) -> Distance:
    """How far apart the means of two sets of bins (K, width) and (L, width), K, L ≥ 2, are.

    The squared distance less what the scatter of bins alone adds to it. Interval: the delta method for the squared
    distance, Var = 4 Δ'ΣΔ + 2 tr Σ² with Σ the covariance of the difference Δ.
    """
    delta = window.mean(axis=0) - reference.mean(axis=0)
    along = total = 0.0
    root = []
    for side in (reference, window):
        centred = (side - side.mean(axis=0)) / np.sqrt(len(side) * (len(side) - 1))
        total += float(np.square(centred).sum())
        along += float(np.square(centred @ delta).sum())
        root.append(centred)
    together = np.vstack(root)
    gram = together @ together.T
    se = float(np.sqrt(4 * along + 2 * np.square(gram).sum()))
    squared = float(delta @ delta) - total
    low, high = squared - 1.96 * se, squared + 1.96 * se
    return Distance(squared, (float(np.sqrt(max(0.0, low))), float(np.sqrt(max(0.0, high)))))

"""Embedding drift of two arrays of rows: the aggregated bin-permutation test on columns fitted on both together."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from monitor.detectors._aggregated import Family, distance, test
from monitor.detectors._pooled import pooled
from monitor.detectors.base import Score, in_words
from monitor.domain.finding import Verdict

Q = 8  # rows a bin, as the worker deals them
MOVED = 3  # neighbourhoods told of


class Options(Protocol):
    """What the test needs of the options of `embedding_mmd`."""

    @property
    def alpha(self) -> float: ...
    @property
    def permutations(self) -> int: ...
    @property
    def effect(self) -> float: ...
    @property
    def min_rows(self) -> int: ...
    @property
    def min_bins(self) -> int: ...
    @property
    def bins(self) -> int: ...
    @property
    def seed(self) -> int: ...


def bin_rows(*sizes: int, most: int) -> int:
    """Rows a bin: 8, or the multiple of 8 from which on no side has more than `most` bins."""
    return Q * max(1, math.ceil(max(sizes) / (Q * most)))


def detectable(n_reference: int, n_current: int, directions: int, alpha: float) -> float:
    """The smallest effect found with power 0.8 by one test over `directions` directions of independent rows."""
    z = float(norm.isf(alpha) + norm.isf(0.2))
    return math.sqrt(z * math.sqrt(2 * directions) * (1 / n_reference + 1 / n_current))


def compare_rows(reference: NDArray[np.float32], current: NDArray[np.float32], options: Options) -> Score:
    """Compare (N, d) with (M, d) embeddings; whole bins change sides, the last rows that fill no bin are left out.

    `value` and `effect`: debiased distance in standard deviations of rows, where the evidence was strongest.
    """
    sizes = len(reference), len(current)
    q = bin_rows(*sizes, most=options.bins)
    k, other = (n // q for n in sizes)
    visible = detectable(*sizes, min(128, reference.shape[1]), options.alpha)
    if min(sizes) < options.min_rows or min(k, other) < max(2, options.min_bins):
        return Score(
            Verdict.INSUFFICIENT,
            f"{sizes[1]} rows against {sizes[0]} are too few to judge embeddings in bins of {q}: at best a shift of "
            f"{visible:.1f} standard deviations could have been seen.",
            threshold=options.effect,
            n_reference=sizes[0],
            n_current=sizes[1],
            details={"detectable": visible},
        )
    found = pooled(np.concatenate([reference[: k * q], current[: other * q]]), q)
    if not found.families:
        return Score(
            Verdict.OK,
            "All rows of both sides are alike.",
            value=0.0,
            p_value=1.0,
            effect=0.0,
            interval=(0.0, 0.0),
            threshold=options.effect,
            n_reference=sizes[0],
            n_current=sizes[1],
        )
    tested = test(found.families, k, options.permutations, options.seed)
    family = found.families[tested.family]
    bins = family.bins[:, tested.chosen]
    apart = distance(bins[:k], bins[k:])
    effect = math.sqrt(max(0.0, apart.squared))
    drift = tested.p_value <= options.alpha and effect >= options.effect
    near = neighbourhoods(found.shares[:k], found.shares[k:])
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        _words(drift, effect, tested.p_value, family, near, visible),
        value=effect,
        p_value=tested.p_value,
        effect=effect,
        interval=(min(apart.interval[0], effect), apart.interval[1]),
        threshold=options.effect,
        n_reference=sizes[0],
        n_current=sizes[1],
        details={
            "squared_distance": apart.squared,
            "moved": family.name,
            "directions": tested.directions,
            "standardised": tested.standardised,
            "neighbourhoods": near,
            "rows_a_bin": q,
            "detectable": visible,
        },
    )


def neighbourhoods(reference: NDArray[np.float64], window: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Neighbourhoods that filled or emptied most, in standard errors; from shares (K, width) and (L, width) of bins."""
    before, after = reference.mean(axis=0), window.mean(axis=0)
    variance = sum(side.var(axis=0, ddof=1) / len(side) for side in (reference, window))
    z = (after - before) / np.sqrt(np.maximum(variance, 1e-12))
    return [
        {"neighbourhood": int(i), "before": float(before[i]), "after": float(after[i]), "z": float(round(z[i], 2))}
        for i in np.argsort(-np.abs(z))[:MOVED]
    ]


def _words(
    drift: bool, effect: float, p_value: float, family: Family, near: list[dict[str, Any]], visible: float
) -> str:
    if not drift:
        return (
            f"No drift of the embeddings: they are {effect:.2f} standard deviations apart ({in_words(p_value)}); a "
            f"shift of {visible:.2f} would probably have been seen."
        )
    told = f"The embeddings have moved by {effect:.2f} standard deviations, most of all in {family.name}"
    if family.name == "neighbourhoods" and near:
        most = near[0]
        told += f": one went from {most['before']:.1%} to {most['after']:.1%} of rows"
    return f"{told} ({in_words(p_value)})."

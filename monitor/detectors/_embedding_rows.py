"""Embedding drift of two arrays of rows: the aggregated bin-permutation test on columns fitted on both together."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from migrations.schema.feature_map import LEADING
from monitor.detectors._aggregated import Family, distance, halving, test
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
    joined = neighbours_joined(found.families[0].bins[:, :LEADING], k, max(2, options.min_bins))
    families = [_joined(each, k, joined) for each in found.families]
    shares = _join(found.shares, k, joined)
    k //= joined
    tested = test(families, k, options.permutations, options.seed)
    family = families[tested.family]
    bins = family.bins[:, tested.chosen]
    apart = distance(bins[:k], bins[k:])
    effect = math.sqrt(max(0.0, apart.squared))
    drift = tested.p_value <= options.alpha and effect >= options.effect
    near = neighbourhoods(shares[:k], shares[k:])
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
            "rows_a_bin": q * joined,
            "detectable": visible,
        },
    )


def neighbours_joined(bins: NDArray[np.float64], k: int, least: int) -> int:
    """How many neighbouring bins to join (1, 2, 4 ...) so that they are exchangeable; `least` bins a side are left.

    Where sessions of near-duplicates do not begin where bins do, neighbouring bins share one. That shows as correlation
    of neighbours among the (N, p) bin means of unit-variance columns, k of them the first side's, and is halved by
    each joining. It is none below 0.05, or below what 2.5 standard errors could be.
    """
    joined = 1
    while min(k, len(bins) - k) >= 2 * joined * least:
        parts = np.split(_join(bins, k, joined), [k // joined])
        along = total = 0.0
        for part in parts:
            centred = part - part.mean(axis=0)
            along += float((centred[:-1] * centred[1:]).sum())
            total += float(np.square(centred).sum())
        pairs = sum(len(part) - 1 for part in parts) * bins.shape[1]
        # centring alone makes neighbours look opposed, by one over the number of bins
        correlation = along / total + 1 / len(parts[0]) if total > 0 else 0.0
        if correlation <= max(0.05, 2.5 / math.sqrt(pairs)):
            break
        joined *= 2
    return joined


def _joined(family: Family, k: int, joined: int) -> Family:
    bins = _join(family.bins, k, joined)
    if family.name != "covariance":
        return replace(family, bins=bins)
    # more directions than half the bins would be whitened to the sessions at hand, of which some may be cut
    bins = bins[:, : max(8, len(bins) // 2)]
    return replace(family, bins=bins, sizes=halving(bins.shape[1]))


def _join(bins: NDArray[np.float64], k: int, joined: int) -> NDArray[np.float64]:
    """Means of so many neighbours on either side; those that are left over at a side's end are left out."""
    sides = []
    for part in np.split(bins, [k]):
        kept = part[: len(part) // joined * joined]
        sides.append(kept.reshape(-1, joined, bins.shape[1]).mean(axis=1))
    return np.concatenate(sides)


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

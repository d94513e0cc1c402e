"""Confidence drift: are answers as sure of themselves as in the baseline?

Value and effect: Jensen-Shannon distance of the two distributions of confidence, √(JS / ln 2) in [0, 1], over cells of
about equal mass in the baseline, each proportion with a Jeffreys prior of half a row (none is clamped); KL (nats), PSI
and the change of the mean stand beside it. 0.2 is about what half a standard deviation of a normal variable makes.

Evidence: whole bins of rows change sides, so that near-duplicates, which share a bin, do not pass for evidence. What
is compared are the shares of rows below each bound of the 50 stored cells, their squared differences added up (Cramér
and von Mises; Anderson 1962). Weights that favour the tails, and the largest difference by itself, were seen to flag
drift-free windows of few sessions against a long baseline twice as often as they should. Assumes that bins are
exchangeable: sessions much longer than a bin are not caught by it.

It is no estimate of accuracy: a model can be surer and wrong more often.

In the baseline all answers are 90% sure, in the window every other one is 50% sure:

>>> import numpy as np
>>> from migrations.schema.bins import from_rows
>>> from monitor.detectors.base import catalogue, judge
>>> from monitor.domain.window import Reference, Summary
>>> before = Summary("fused", {}, from_rows({"confidence": np.eye(10)[np.full(800, 8)]}, 8))
>>> window = Summary("fused", {}, from_rows({"confidence": np.eye(10)[np.where(np.arange(400) % 2, 4, 8)]}, 8))
>>> score = judge(catalogue()["confidence_drift"], "fused", Reference(1, "1", {"fused": before}), window)
>>> score.verdict.value, round(score.effect, 2), round(score.details["mean_window"], 2)
('drift', 0.55, 0.65)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.detectors._aggregated import Family, test
from monitor.detectors._binned import Array, alike_sides
from monitor.detectors.base import Context, Detector, Score, Takes, in_words
from monitor.detectors.class_drift import divergences
from monitor.domain.finding import Verdict
from monitor.domain.window import Summary

CAVEAT = "confidence says nothing of whether answers are right"
# Means that differ by less are told as equal.
SAME_MEAN = 0.01


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha` and `permutations`; `effect` as Jensen-Shannon distance over at least `cells` cells where rows allow.

    Below `min_rows` rows or `min_bins` bins on either side nothing is decided; at most `bins` bins a side are used.
    """

    alpha: float = 0.0002  # all windows share one baseline sample: an odd one must not flag them all
    permutations: int = 9999
    effect: float = 0.2
    cells: int = 10
    min_rows: int = 100
    min_bins: int = 8
    bins: int = 12
    seed: int = 0


def _rows(summary: Summary) -> int:
    return summary.bins.rows if "confidence" in summary.bins.columns else 0


def first_cells(baseline: Array, cells: int) -> NDArray[np.intp]:
    """The first fine cell of each joined one, of baseline counts (B,) by fine cell.

    Joined cells hold about a `cells`-th of the rows each; a fine cell that holds more by itself stays by itself.
    """
    total = baseline.sum()
    cuts = np.searchsorted(np.cumsum(baseline), total * np.arange(1, cells) / cells) + 1
    heavy = np.flatnonzero(baseline > total / cells)
    found = np.unique(np.concatenate([[0], cuts, heavy, heavy + 1]))
    return found[found < len(baseline)]


def _evidence(reference: Array, window: Array, options: Options) -> float:
    """p-value of equal distributions of two sides' bins (K, B), shares of rows by fine cell."""
    below = np.cumsum(np.vstack([reference, window]), axis=1)[:, :-1]
    below = below[:, np.ptp(below, axis=0) > 0]
    if below.shape[1] == 0:
        return 1.0
    family = Family("confidence", below, (below.shape[1],))
    return test([family], len(reference), options.permutations, options.seed).p_value


def run(context: Context, current: Summary, options: Options) -> Score:
    """Judge the confidence of a window's answers."""
    n_reference, n_current = context.summary.bins.rows, current.bins.rows
    reference, window = alike_sides(context, current, "confidence", options.bins)
    before, after = context.summary.bins.total("confidence"), current.bins.total("confidence")
    starts = first_cells(before, options.cells)
    if min(n_reference, n_current) < options.min_rows or min(len(reference), len(window)) < options.min_bins:
        chance = math.sqrt((len(starts) - 1) / 8 * (1 / n_reference + 1 / n_current) / math.log(2))
        return Score(
            Verdict.INSUFFICIENT,
            f"{n_current} answers against {n_reference} are too few to judge confidence: chance alone gives a "
            f"Jensen-Shannon distance of about {min(1.0, chance):.2f}.",
            threshold=options.effect,
            n_reference=n_reference,
            n_current=n_current,
        )
    counts = np.add.reduceat(before, starts), np.add.reduceat(after, starts)
    found = divergences(*counts)
    distance = math.sqrt(max(0.0, found["js"]) / math.log(2))
    p_value = _evidence(reference, window, options)
    drift = p_value <= options.alpha and distance >= options.effect
    means = _mean(before), _mean(after)
    shares = counts[0] / before.sum(), counts[1] / after.sum()
    bounds = np.append(starts, len(before)) / len(before)
    words = _moved(means, shares, bounds) if drift else _calm(means)
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        f"{words} (JS distance {distance:.2f}, {in_words(p_value)}){f'; {CAVEAT}' if drift else ''}.",
        value=distance,
        p_value=p_value,
        effect=distance,
        threshold=options.effect,
        n_reference=n_reference,
        n_current=n_current,
        details={
            **found,
            "mean_baseline": means[0],
            "mean_window": means[1],
            "bounds": bounds.tolist(),
            "baseline": shares[0].tolist(),
            "window": shares[1].tolist(),
            "caveat": CAVEAT,
        },
    )


def _mean(counts: Array) -> float:
    """Mean confidence of counts (B,) by equal cells of [0, 1], each row at the middle of its cell."""
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    return float(counts @ middles / counts.sum())


def _calm(means: tuple[float, float]) -> str:
    return f"Confidence is about as in the baseline: mean {means[0]:.2f}, now {means[1]:.2f}"


def _moved(means: tuple[float, float], shares: tuple[Array, Array], bounds: Array) -> str:
    change = means[1] - means[0]
    most = int(np.abs(shares[1] - shares[0]).argmax())
    where = (
        f"{shares[0][most]:.0%} of answers were {bounds[most]:.2f} to {bounds[most + 1]:.2f} sure, "
        f"now {shares[1][most]:.0%} are"
    )
    if abs(change) < SAME_MEAN:
        return f"Confidence is spread otherwise than in the baseline, around the same mean of {means[1]:.2f}: {where}"
    way = "more" if change > 0 else "less"
    return f"Answers are {way} sure than in the baseline: mean confidence {means[0]:.2f}, now {means[1]:.2f}; {where}"


DETECTOR = Detector("confidence_drift", Takes.FUSED, Options, run, _rows)

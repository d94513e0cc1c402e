"""Pairing drift: do the modalities of a request still belong together?

Image and text can each look as ever while they are mixed up. The worker scores each pair by its pointwise mutual
information under a Gaussian model of baseline pairs and subtracts what image alone, and text alone, would lead one
to expect; bins keep both residuals (the `pairing` column). Drift: **both** residuals fell; p is the larger of two
Welch tests on bin means (an intersection-union test, Berger 1982). A change of one marginal moves one residual at
most. Where classes differ in how well their pairs fit, another class mix moves both: up is no drift, down may be.
Effect: the smaller of the two shifts, in standard deviations of baseline rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from monitor.detectors._binned import row_sd, sides, welch
from monitor.detectors.base import Context, Detector, Score, Takes, in_words
from monitor.domain.finding import Verdict
from monitor.domain.window import Summary


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `effect` in standard deviations of a pair's residual score; rows and bins a side needs."""

    alpha: float = 0.001
    effect: float = 0.3
    min_rows: int = 100
    min_bins: int = 8
    bins: int = 16


def _pairs(summary: Summary) -> int:
    return summary.bins.rows if "pairing" in summary.bins.columns else 0


def run(context: Context, current: Summary, options: Options) -> Score:
    """Judge the pairing of a window. `value` is the smaller shift, negative where pairs fit worse than before.

    Pairs that fit better than the baseline's are no drift: where captions contradict their pictures more rarely, say,
    because other classes come, nothing is mixed up.
    """
    n_reference, n_current = context.summary.bins.rows, current.bins.rows
    reference, window = sides(context, current, "pairing", options.bins)
    z = float(norm.isf(options.alpha / 2) + norm.isf(0.2))
    visible = z * math.sqrt(1 / n_reference + 1 / n_current)
    if min(n_reference, n_current) < options.min_rows or len(reference) < options.min_bins:
        return Score(
            Verdict.INSUFFICIENT,
            f"{n_current} pairs against {n_reference} are too few to judge pairing: at best a shift of {visible:.1f} "
            "standard deviations could have been seen.",
            threshold=-options.effect,
            n_reference=n_reference,
            n_current=n_current,
            details={"detectable": visible},
        )
    shift = current.bins.total("pairing") / n_current - context.summary.bins.total("pairing") / n_reference
    shifts = shift / row_sd(context.summary.bins, "pairing", "pairing")
    p_value = float(welch(reference, window).max())
    same_way = bool(shifts[0] * shifts[1] > 0)
    value = float(shifts[np.abs(shifts).argmin()]) if same_way else 0.0
    drift = p_value <= options.alpha and value <= -options.effect
    if drift or (p_value <= options.alpha and value >= options.effect):
        words = (
            f"Image and text of a request fit each other {'worse' if drift else 'better'} than in the baseline by "
            f"{abs(value):.2f} standard deviations ({in_words(p_value)}), whatever each looks like by itself."
        )
    else:
        words = f"Image and text belong together as in the baseline (shift {value:+.2f} sd, {in_words(p_value)})."
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        words,
        value=value,
        p_value=p_value,
        effect=abs(value),
        threshold=-options.effect,
        n_reference=n_reference,
        n_current=n_current,
        details={"given_image": float(shifts[0]), "given_text": float(shifts[1]), "detectable": visible},
    )


DETECTOR = Detector("pairing", Takes.FUSED, Options, run, _pairs)

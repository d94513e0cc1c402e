"""Quality statistics: which plain property of the input moved (brightness, noise, number of tokens ...)?

Each statistic's bin means are compared by Welch's t-test and its p-value multiplied by the number of statistics
(Bonferroni). Effect: difference of means in standard deviations of baseline rows (Glass's Δ).
Assumes bin means near normal: 8 rows and more a bin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from monitor.detectors._binned import moved_statistics, names, row_sd, sides, told, welch
from monitor.detectors.base import Context, Detector, Score, Takes
from monitor.domain.finding import Verdict
from monitor.domain.window import Summary


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha` over all statistics together; `effect` in baseline standard deviations; rows and bins a side needs."""

    alpha: float = 0.001
    effect: float = 0.4
    min_rows: int = 50
    min_bins: int = 6
    bins: int = 32


def run(context: Context, current: Summary, options: Options) -> Score:
    """Judge the quality statistics of one modality. `value` and `effect` are the largest standardised change."""
    n_reference, n_current = context.summary.bins.rows, current.bins.rows
    reference, window = sides(context, current, "quality", options.bins)
    width = reference.shape[1]
    if min(n_reference, n_current) < options.min_rows or len(reference) < options.min_bins or width == 0:
        z = float(norm.isf(options.alpha / max(width, 1) / 2) + norm.isf(0.2))
        visible = z * math.sqrt(1 / n_reference + 1 / n_current)
        return Score(
            Verdict.INSUFFICIENT,
            f"{n_current} rows against {n_reference} are too few to judge {current.modality} quality: at best a change "
            f"of {visible:.1f} baseline standard deviations could have been seen.",
            threshold=options.effect,
            n_reference=n_reference,
            n_current=n_current,
        )
    p_values = np.minimum(1.0, width * welch(reference, window))
    shift = current.bins.total("quality") / n_current - context.summary.bins.total("quality") / n_reference
    effects = shift / row_sd(context.summary.bins, "quality", current.modality)
    largest = int(np.abs(effects).argmax())
    drift = bool(((np.abs(effects) >= options.effect) & (p_values <= options.alpha)).any())
    moved = moved_statistics(context, current, options.alpha) if drift else []
    name = names(context, width)[largest].replace("_", " ")
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        f"The {current.modality} inputs look different: {told(moved)}."
        if drift
        else f"The {current.modality} inputs look as in the baseline; furthest is {name}, {effects[largest]:+.2f} sd.",
        value=float(effects[largest]),
        p_value=float(p_values.min()),
        effect=float(abs(effects[largest])),
        threshold=options.effect,
        n_reference=n_reference,
        n_current=n_current,
        details={"moved": moved},
    )


DETECTOR = Detector(
    "quality", Takes.MODALITY, Options, run, lambda s: s.bins.rows if "quality" in s.bins.columns else 0
)

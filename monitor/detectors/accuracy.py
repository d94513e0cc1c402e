"""Accuracy with labels: are answers right as often as on the baseline's validation rows?

Value: share right, with Wilson's 95% interval (Wilson 1927). Drift: it lies `drop` or more below the baseline, and a
one-sided two-proportion z-test says so too. Assumes labelled rows are a fair sample of the answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from monitor.detectors.base import Context, Detector, Score, Takes, in_words, labelled_rows
from monitor.domain.finding import Verdict
from monitor.domain.intervals import wilson
from monitor.domain.window import Labelled


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `drop` in share of answers; fewer than `min_rows` labels decide nothing."""

    alpha: float = 0.001
    drop: float = 0.05
    min_rows: int = 100


def run(context: Context, current: Labelled, options: Options) -> Score:
    """Judge the accuracy of labelled answers. `effect` is the drop below the baseline's accuracy."""
    right, n = int(current.correct.sum()), len(current.correct)
    share, interval = right / n, wilson(right, n)
    before, n_reference = context.reference.accuracy, context.reference.labelled
    if before is None or n_reference == 0:
        return Score(
            Verdict.NO_BASELINE,
            f"{share:.1%} of {n} labelled answers are right; the baseline does not say how many were before.",
            value=share,
            interval=interval,
            n_current=n,
        )
    if n < options.min_rows:
        return Score(
            Verdict.INSUFFICIENT,
            f"{n} labels are too few: accuracy lies between {interval[0]:.0%} and {interval[1]:.0%}.",
            value=share,
            interval=interval,
            n_reference=n_reference,
            n_current=n,
        )
    pooled = (right + before * n_reference) / (n + n_reference)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / n_reference))
    p_value = float(norm.sf((before - share) / error)) if error > 0 else 1.0
    drift = p_value <= options.alpha and before - share >= options.drop
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        f"{share:.1%} of {n} labelled answers are right, {before:.1%} in the baseline ({in_words(p_value)}).",
        value=share,
        p_value=p_value,
        effect=before - share,
        interval=interval,
        threshold=before - options.drop,
        n_reference=n_reference,
        n_current=n,
        details={"baseline": before, "patterns": by_pattern(current)},
    )


def by_pattern(current: Labelled) -> dict[str, Any]:
    """Rows and share right by presence pattern; empty where patterns are not known."""
    if current.pattern is None:
        return {}
    found = {}
    for pattern in np.unique(current.pattern):
        rows = current.correct[current.pattern == pattern]
        found[str(pattern)] = {"rows": len(rows), "accuracy": float(rows.mean())}
    return found


DETECTOR = Detector("accuracy", Takes.LABELS, Options, run, labelled_rows)

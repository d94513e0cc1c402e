"""Accuracy with labels: are answers right as often as on the baseline's validation rows?

Value: share right with a 95% interval. Labels that a queue chose count by the inverse of their sampling probability
(Hájek's estimate); where the confidences of all answers are known, they narrow the interval (PPI++, see
`_sampling.powered`). The interval is Wilson's (1927) at the effective number of rows; without weights and confidences
it is the plain one. Drift: the share lies `drop` or more below the baseline, and a one-sided two-proportion z-test
says so too. Assumes that labelled rows are a fair sample of the answers, given those probabilities; labels that
people send of their own accord are not, and nothing here can tell.

>>> import numpy as np
>>> from monitor.detectors.base import catalogue, judge
>>> from monitor.domain.window import Labelled, Reference
>>> labels = Labelled(np.full(400, 0.9), np.arange(400) % 5 > 0)
>>> score = judge(catalogue()["accuracy"], "fused", Reference(1, "1", {}, accuracy=0.93, labelled=2000), labels)
>>> score.verdict.value, score.value
('drift', 0.8)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from monitor.detectors._sampling import WHOLE, Estimate, Powered, Sample, hajek, of_share, powered, sample, selection
from monitor.detectors.base import Context, Detector, Score, Takes, in_words, labelled_rows
from monitor.domain.finding import Verdict
from monitor.domain.window import Labelled


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `drop` in share of answers; fewer than `min_rows` labels decide nothing.

    `use_confidences` says whether the confidences of all answers narrow the interval, where they are known.
    """

    alpha: float = 0.001
    drop: float = 0.05
    min_rows: int = 100
    use_confidences: bool = True


def run(context: Context, current: Labelled, options: Options) -> Score:
    """Judge the accuracy of labelled answers. `effect` is the drop below the baseline's accuracy."""
    chosen = sample(current)
    plain = hajek(current.correct[chosen.rows].astype(np.float64), chosen.weight)
    helped = _powered(current, chosen) if options.use_confidences else None
    found = plain if helped is None else helped.estimate
    n = len(chosen.rows)
    before, n_reference = context.reference.accuracy, context.reference.labelled
    if n_reference == 0:
        before = None
    p_value = None if before is None else _worse(found, before, n_reference)
    if before is None or p_value is None:
        verdict = Verdict.NO_BASELINE
    elif n < options.min_rows:
        verdict = Verdict.INSUFFICIENT
    else:
        drift = p_value <= options.alpha and before - found.value >= options.drop
        verdict = Verdict.DRIFT if drift else Verdict.OK
    return Score(
        verdict,
        _explanation(current, chosen, found, before, p_value, verdict),
        value=found.value,
        p_value=p_value,
        effect=None if before is None else before - found.value,
        interval=found.interval(),
        threshold=None if before is None else max(0.0, before - options.drop),
        n_reference=n_reference,
        n_current=n,
        details={
            "baseline": before,
            "share_right": float(current.correct.mean()),
            "patterns": by_pattern(current),
            "selection": selection(current, chosen),
            "confidences": None
            if helped is None
            else {"tuning": helped.tuning, "narrower": helped.narrower, "without": plain.value},
        },
    )


def _powered(current: Labelled, chosen: Sample) -> Powered | None:
    if current.answers is None or len(chosen.rows) < 2:
        return None
    rows = chosen.rows
    whole = np.ones(len(rows), np.bool_) if current.pattern is None else np.isin(current.pattern[rows], WHOLE)
    right = current.correct[rows].astype(np.float64)
    return powered(right, current.confidence[rows], whole, chosen.weight, current.answers)


def _worse(found: Estimate, before: float, n_reference: int) -> float:
    """One-sided p-value of the hypothesis that accuracy is what it was."""
    pooled = (found.value * found.rows + before * n_reference) / (found.rows + n_reference)
    error = math.sqrt(pooled * (1 - pooled) * (1 / found.rows + 1 / n_reference))
    return float(norm.sf((before - found.value) / error)) if error > 0 else 1.0


def _explanation(
    current: Labelled, chosen: Sample, found: Estimate, before: float | None, p_value: float | None, verdict: Verdict
) -> str:
    n, (low, high) = len(chosen.rows), found.interval()
    if verdict is Verdict.INSUFFICIENT:
        return f"{n} labels are too few: accuracy lies between {low:.0%} and {high:.0%}."
    share = f"{current.correct[chosen.rows].mean():.1%} of {n} labelled answers{of_share(current)} are right"
    if abs(found.value - float(current.correct[chosen.rows].mean())) >= 0.0005:
        why = "how labels were chosen" if chosen.weighted else "the confidences of all answers"
        share += f", {found.value:.1%} of all when {why} {'is' if chosen.weighted else 'are'} allowed for"
    if before is None:
        return f"{share}; the baseline does not say how many were before."
    return f"{share}; {before:.1%} in the baseline ({in_words(p_value if p_value is not None else 1.0)})."


def by_pattern(current: Labelled) -> dict[str, Any]:
    """Rows, share right and its interval by presence pattern; empty where patterns are not known."""
    if current.pattern is None:
        return {}
    chosen = sample(current)
    patterns, right = current.pattern[chosen.rows], current.correct[chosen.rows].astype(np.float64)
    found = {}
    for pattern in np.unique(patterns):
        here = patterns == pattern
        share = hajek(right[here], chosen.weight[here])
        found[str(pattern)] = {"rows": int(here.sum()), "accuracy": share.value, "interval": list(share.interval())}
    return found


DETECTOR = Detector("accuracy", Takes.LABELS, Options, run, labelled_rows)

"""Calibration: does confidence match the share of answers that are right?

Value: expected calibration error over groups of equal numbers, debiased (`migrations.schema.calibration_error`), in
[0, 1]. Evidence: a test of the hypothesis that each answer is right with probability equal to its confidence, by the
joint law of two sums (`_calibrated.joint_test`):
 signed gap z   Σ(y - c) / √Σ c(1 - c): over- or underconfidence as a whole
 Spiegelhalter z   Σ(y - c)(1 - 2c) / √Σ (1 - 2c)² c(1 - c)  (Spiegelhalter 1986): errors that cancel in the former
Drift needs both: ECE alone is large on calibrated models at few labels, a test alone minds what does no harm.
Assumes independent labelled answers. The test holds however requests were chosen to be labelled, as long as whether
the answer was right played no part; the error is weighted by inverse sampling probability where that is known.

Interval: reverse-percentile bootstrap, of a world whose gaps are those seen, with the debiased error compared with
that world's own error; it reaches at least as high as the overall gap's interval does, which the error cannot be
below. Measured (`tests/bench/bench_calibration.py`): nominal 90% intervals hold a true error of 3-10 points in 86-95%
of trials, at 200 to 5000 labels.

Details: MCE (the largest debiased gap of a group), Brier score, both z, the same by presence pattern and by predicted
class, a temperature re-fit (`_temperature.proposal`) and how the labels were chosen.

>>> import numpy as np
>>> from monitor.detectors.base import catalogue, judge
>>> from monitor.domain.window import Labelled
>>> labels = Labelled(np.full(1000, 0.9), np.arange(1000) % 5 > 0)
>>> score = judge(catalogue()["calibration"], "fused", None, labels)
>>> score.verdict.value, round(score.value, 2)
('drift', 0.1)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from migrations.schema.calibration_error import absolute_gaps, bootstrap_interval, debiased, equal_mass
from monitor.detectors._calibrated import Tested, gap_z, joint_test, smallest_gap, spiegelhalter_z
from monitor.detectors._sampling import Sample, of_share, sample, selection
from monitor.detectors._temperature import Proposal, proposal
from monitor.detectors.base import Context, Detector, Score, Takes, in_words, labelled_rows
from monitor.domain.finding import Verdict
from monitor.domain.window import Labelled

__all__ = ["DETECTOR", "Options", "brier", "gap_z", "spiegelhalter_z"]

Array = NDArray[np.float64]

# Classes that a finding tells of: the most frequent ones.
MOST_CLASSES = 50


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `threshold` of ECE; fewer than `min_rows` labels decide nothing; `resamples` of the bootstrap.

    `level` of the interval.
    """

    alpha: float = 0.001
    threshold: float = 0.05
    min_rows: int = 500
    resamples: int = 500
    level: float = 0.95
    seed: int = 0


def brier(confidence: Array, correct: NDArray[np.bool_], weight: Array | None = None) -> float:
    """Mean squared difference of confidence and truth, of the predicted class, in [0, 1]."""
    return float(np.average((correct - confidence) ** 2, weights=weight))


def run(context: Context, current: Labelled, options: Options) -> Score:
    """Judge the calibration of labelled answers; no baseline is needed: truth is."""
    chosen = sample(current)
    rows, weight = chosen.rows, chosen.weight
    confidence, correct = current.confidence[rows].astype(np.float64), current.correct[rows].astype(np.bool_)
    groups = equal_mass(confidence, correct, weight=weight)
    ece, tested = float(debiased(groups)), joint_test(confidence, correct, seed=options.seed)
    gap = float(np.average(correct - confidence, weights=weight))
    if len(rows) < options.min_rows:
        verdict = Verdict.INSUFFICIENT
    else:
        drift = tested.p_value <= options.alpha and ece >= options.threshold
        verdict = Verdict.DRIFT if drift else Verdict.OK
    refit = _refit(context, current, chosen)
    return Score(
        verdict,
        _explanation(current, chosen, ece, gap, tested, refit, verdict, options),
        value=ece,
        p_value=tested.p_value,
        effect=ece,
        interval=bootstrap_interval(groups, level=options.level, resamples=options.resamples, seed=options.seed),
        threshold=options.threshold,
        n_current=len(rows),
        details={
            "gap": gap,
            "gap_z": tested.gap_z,
            "spiegelhalter_z": tested.spiegelhalter_z,
            "mce": float(min(1.0, max(0.0, absolute_gaps(groups).max()))),
            "brier": brier(confidence, correct, weight),
            "patterns": _by(None if current.pattern is None else current.pattern[rows], confidence, correct, weight),
            "classes": _by(None if current.predicted is None else current.predicted[rows], confidence, correct, weight),
            "temperature": None if refit is None else refit.told(),
            "selection": selection(current, chosen),
        },
    )


def _by(names: NDArray[np.str_] | None, confidence: Array, correct: NDArray[np.bool_], weight: Array) -> dict[str, Any]:
    """Calibration of each group of answers by name, the most frequent first; empty where names are not known."""
    if names is None:
        return {}
    known, count = np.unique(names, return_counts=True)
    found: dict[str, Mapping[str, Any]] = {}
    for name in known[np.argsort(-count, kind="stable")][:MOST_CLASSES]:
        here = names == name
        c, y, w = confidence[here], correct[here], weight[here]
        found[str(name)] = {
            "rows": int(here.sum()),
            "ece": float(debiased(equal_mass(c, y, weight=w))),
            "gap": float(np.average(y - c, weights=w)),
            "gap_z": gap_z(c, y),
            "brier": brier(c, y, w),
        }
    return found


def _refit(context: Context, current: Labelled, chosen: Sample) -> Proposal | None:
    rows, names = chosen.rows, context.reference.class_names
    confidence, correct = current.confidence[rows].astype(np.float64), current.correct[rows].astype(np.bool_)
    if current.probabilities is None or current.label is None or current.probabilities.shape[1] != len(names):
        return proposal(confidence, correct)
    number = {name: index for index, name in enumerate(names)}
    truth = np.array([number.get(name, -1) for name in current.label[rows].tolist()], np.intp)
    of_model = truth >= 0  # a label that the model has no class for has no log loss
    return proposal(confidence[of_model], correct[of_model], current.probabilities[rows][of_model], truth[of_model])


def _explanation(
    current: Labelled,
    chosen: Sample,
    ece: float,
    gap: float,
    tested: Tested,
    refit: Proposal | None,
    verdict: Verdict,
    options: Options,
) -> str:
    n, way = len(chosen.rows), "overconfident" if gap < 0 else "underconfident"
    if verdict is Verdict.INSUFFICIENT:
        unseen = smallest_gap(current.confidence[chosen.rows], options.alpha)
        return (
            f"{n} labels are too few to judge calibration; {options.min_rows} are needed. A gap between confidence and "
            f"accuracy below {unseen:.0%} would hardly have been seen."
        )
    matches = "does not match" if verdict is Verdict.DRIFT else "matches"
    text = (
        f"Confidence {matches} accuracy: ECE is {ece:.1%} over {n} labelled answers{of_share(current)}, "
        f"{way} by {abs(gap):.1%} ({in_words(tested.p_value)})."
    )
    if verdict is Verdict.DRIFT and refit is not None and refit.proposed:
        text += (
            f" A temperature {refit.temperature:.2f} times the present one would leave an ECE of {refit.ece_after:.1%}."
        )
    return text


DETECTOR = Detector("calibration", Takes.LABELS, Options, run, labelled_rows, needs_baseline=False)

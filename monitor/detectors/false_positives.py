"""False positives: how often is a class answered where it is not the truth?

Value: the macro false-positive rate, the mean over classes c of P(answer is c | truth is not c), with a 95% interval;
beside it the worst class with Wilson's interval (1927), widened for being the worst of all (Bonferroni). Labels count
by the inverse of their sampling probability where it is known. The macro rate is a sum over wrong answers of one over
the rows that could have been wrong that way, so that its variance is the sum of their squares (Poisson counts).
A trend; drift only where `target` (of the macro rate) or `worst_target` (of any class) is set and the whole interval
lies above. What reviewers wrote into a label's `verdict` is counted beside it: correct, false positive, false negative.

Of 150 rows that are not a, 30 are answered a; of 150 that are not b, none is answered b:

>>> import numpy as np
>>> from monitor.detectors.base import catalogue, judge
>>> from monitor.domain.window import Labelled
>>> label, predicted = np.repeat(["a", "b"], 150), np.repeat(["a", "b"], [180, 120])
>>> labels = Labelled(np.full(300, 0.9), label == predicted, predicted=predicted, label=label)
>>> round(judge(catalogue()["false_positives"], "fused", None, labels).value, 3)
0.1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from monitor.detectors._sampling import Estimate, effective_rows, hajek, of_share, sample, selection
from monitor.detectors.base import Context, Detector, Score, Takes
from monitor.domain.finding import Verdict
from monitor.domain.window import Labelled

Array = NDArray[np.float64]

VERDICTS = ("correct", "false_positive", "false_negative")  # of reviewers; anything else is free text and stays unread
MOST_CLASSES = 50


@dataclass(frozen=True, slots=True)
class Options:
    """`target` and `worst_target` as rates, None for none; fewer than `min_rows` labels decide nothing."""

    target: float | None = None
    worst_target: float | None = None
    min_rows: int = 100


@dataclass(frozen=True, slots=True)
class Rate:
    """One class: how many answers named it wrongly, of how many that are not it."""

    name: str
    wrong: int
    others: int
    estimate: Estimate
    interval: tuple[float, float]

    def told(self) -> dict[str, Any]:
        """For a finding's details."""
        return {
            "false_positives": self.wrong,
            "others": self.others,
            "rate": self.estimate.value,
            "interval": list(self.interval),
        }


def _size(labelled: Labelled) -> int:
    return 0 if labelled.label is None or labelled.predicted is None else len(labelled.label)


def rates(predicted: NDArray[np.str_], label: NDArray[np.str_], weight: Array) -> list[Rate]:
    """Of every class that some row is not of, by name; (n,) each. Intervals hold for all classes together, at 95%."""
    names = np.unique(np.concatenate([predicted, label]))
    z = float(norm.isf(0.025 / len(names)))
    found = []
    for name in names:
        others = label != name
        if others.any():
            wrong = predicted[others] == name
            estimate = hajek(wrong.astype(np.float64), weight[others])
            found.append(Rate(str(name), int(wrong.sum()), int(others.sum()), estimate, estimate.interval(z)))
    return found


def macro(found: list[Rate], predicted: NDArray[np.str_], label: NDArray[np.str_], weight: Array) -> Estimate:
    """The mean of the classes' rates."""
    mean = float(np.mean([each.estimate.value for each in found]))
    mass = {each.name: float(weight[label != each.name].sum()) for each in found}
    parts = [w / mass[name] for name, truth, w in zip(predicted, label, weight, strict=True) if name != truth]
    variance = float(sum(part**2 for part in parts)) / len(found) ** 2
    fewest = min(effective_rows(weight[label != each.name]) for each in found)
    return Estimate(mean, max(1.0, mean * (1 - mean) / variance) if variance > 0 and mean < 1 else max(1.0, fewest))


def run(_: Context, current: Labelled, options: Options) -> Score:
    """Measure false-positive rates; no baseline is needed. `effect` is the macro rate's excess over the target."""
    if current.predicted is None or current.label is None:
        raise ValueError("false positives need the predicted class and the label of each answer")
    chosen = sample(current)
    predicted, label = current.predicted[chosen.rows], current.label[chosen.rows]
    found = rates(predicted, label, chosen.weight)
    if not found:
        return Score(
            Verdict.INSUFFICIENT,
            f"All {len(label)} labels and answers are of one class, which is too few to tell of false positives.",
            n_current=len(label),
        )
    mean = macro(found, predicted, label, chosen.weight)
    worst = max(found, key=lambda each: (each.estimate.value, each.others))
    low, high = mean.interval()
    few = len(label) < options.min_rows
    above = options.target is not None and low > options.target
    above |= options.worst_target is not None and any(each.interval[0] > options.worst_target for each in found)
    if few:
        words = f"{len(label)} labels are too few: the false-positive rate lies between {low:.1%} and {high:.1%}"
    else:
        words = (
            f"A class is answered wrongly in {mean.value:.1%} of the cases that are not of it, over {len(label)} labels"
            f"{of_share(current)}; worst is {worst.name} with {worst.estimate.value:.1%} "
            f"({worst.interval[0]:.1%} to {worst.interval[1]:.1%})"
        )
    ranked = sorted(found, key=lambda each: -each.estimate.value)[:MOST_CLASSES]
    return Score(
        Verdict.INSUFFICIENT if few else Verdict.DRIFT if above else Verdict.OK,
        f"{words}.",
        value=mean.value,
        effect=None if options.target is None else mean.value - options.target,
        interval=(low, high),
        threshold=options.target,
        n_current=len(label),
        details={
            "worst": worst.name,
            "classes": {each.name: each.told() for each in ranked},
            "reviewers": _reviewers(current),
            "selection": selection(current, chosen),
        },
    )


def _reviewers(current: Labelled) -> dict[str, Any]:
    """How often each known verdict was given, and the share of false positives among them; empty without verdicts."""
    if current.verdict is None or not (current.verdict != "").any():
        return {}
    given = np.array([text.strip().lower().replace(" ", "_").replace("-", "_") for text in current.verdict.tolist()])
    counts = {name: int((given == name).sum()) for name in VERDICTS}
    known = sum(counts.values())
    other = int((given != "").sum()) - known
    return {**counts, "other": other, "false_positive_share": counts["false_positive"] / known if known else None}


DETECTOR = Detector("false_positives", Takes.LABELS, Options, run, _size, needs_baseline=False)

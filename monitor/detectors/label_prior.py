"""Label prior: has the mix of true classes moved, and if so, did answers get worse within classes?

Value: KL(labels ‖ baseline's labels) in nats, with the Jeffreys prior of `class_drift.divergences`. Evidence: the
two-sample G-test of the class counts, divided by the overdispersion that eights of labels received one after another
show (near-duplicates of one session are labelled together). Labels that the model has no class for count as a class of
their own. Beside it the share right of each class with Wilson's interval, and a stratified z of the hypothesis that
each class is answered as well as in the baseline: Σ(k_c - n_c a_c) / √Σ n_c a_c(1 - a_c)(1 + n_c / m_c) (as Cochran
1954), so that "the mix moved" and "answers got worse" can be told apart: a prior shift changes accuracy without any
class being answered worse.
Drift says that the mix moved; no alert comes of it by default. Assumes labels are a fair sample given their sampling
probabilities: a labelling queue that prefers one class looks like a shift.

>>> import numpy as np
>>> from monitor.detectors.base import catalogue, judge
>>> from monitor.domain.window import Labelled, Reference
>>> known = Reference(1, "1", {}, ("a", "b"), labelled=1000, class_prior=(0.5, 0.5), class_accuracy=(0.9, 0.9))
>>> label = np.array(["a"] * 9 + ["b"])[np.arange(500) % 10]
>>> labels = Labelled(np.full(500, 0.9), np.arange(500) % 100 >= 10, predicted=label, label=label)
>>> judge(catalogue()["label_prior"], "fused", known, labels).verdict.value
'drift'
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from migrations.schema.bins import from_rows
from monitor.detectors._sampling import Sample, effective_rows, sample, selection
from monitor.detectors.base import Context, Detector, Score, Takes, in_words
from monitor.detectors.class_drift import dispersion, divergences, g_test
from monitor.domain.finding import Verdict
from monitor.domain.intervals import wilson
from monitor.domain.window import Labelled

Array = NDArray[np.float64]

TOGETHER = 8  # labels received one after another that are taken to come of one session
MOST_BINS = 512


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha`; `threshold` of the KL divergence in nats; fewer than `min_rows` labels decide nothing.

    `within_alpha` is the level at which answers within classes are called worse.
    """

    alpha: float = 0.0001
    threshold: float = 0.1
    min_rows: int = 100
    within_alpha: float = 0.01


@dataclass(frozen=True, slots=True)
class Within:
    """Answers within classes: share right by class, and how they changed; `z` < 0 where they are worse."""

    classes: dict[str, dict[str, Any]]
    change: float | None
    z: float | None


def _size(labelled: Labelled) -> int:
    return 0 if labelled.label is None else len(labelled.label)


def run(context: Context, current: Labelled, options: Options) -> Score:
    """Judge the mix of the labels."""
    known, prior = context.reference.class_names, np.array(context.reference.class_prior, np.float64)
    n_reference = context.reference.labelled
    if len(prior) == 0 or len(prior) != len(known) or n_reference == 0:
        return Score(
            Verdict.NO_BASELINE,
            "The baseline does not say how its labels were mixed, so that a shift of the mix cannot be judged.",
            n_current=_size(current),
        )
    chosen = sample(current)
    names, classes = _classes(known, current, chosen)
    weight = np.bincount(classes, weights=chosen.weight, minlength=len(names))
    n_effective = effective_rows(chosen.weight)
    window = weight / weight.sum() * n_effective
    reference = np.append(prior, np.zeros(len(names) - len(prior))) * n_reference
    found = divergences(reference, window)
    overdispersion, df = dispersion(from_rows({"classes": np.eye(len(names))[classes]}, TOGETHER), MOST_BINS)
    factor = 1 + (max(1.0, overdispersion) - 1) * n_reference / (n_reference + n_effective)
    p_value = g_test(reference, window, factor, df)
    drift = p_value <= options.alpha and found["kl"] >= options.threshold
    few = len(chosen.rows) < options.min_rows
    within = _within(context, current, chosen, names, classes)
    before, after = reference / reference.sum(), window / window.sum()
    return Score(
        Verdict.INSUFFICIENT if few else Verdict.DRIFT if drift else Verdict.OK,
        _few(len(chosen.rows), n_reference, len(names))
        if few
        else _explanation(names, before, after, found["kl"], p_value, drift, within, options),
        value=found["kl"],
        p_value=p_value,
        effect=found["kl"],
        threshold=options.threshold,
        n_reference=n_reference,
        n_current=len(chosen.rows),
        details={
            **found,
            "overdispersion": factor,
            "names": list(names),
            "baseline": before.tolist(),
            "window": after.tolist(),
            "classes": within.classes,
            "within_change": within.change,
            "within_z": within.z,
            "selection": selection(current, chosen),
        },
    )


def _classes(known: tuple[str, ...], current: Labelled, chosen: Sample) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Class names, one more where there are labels of no known class, and each label's number (n,)."""
    labels = [] if current.label is None else current.label[chosen.rows].tolist()
    number = {name: index for index, name in enumerate(known)}
    classes = np.array([number.get(label, len(known)) for label in labels], np.intp)
    return (*known, "unknown to the model") if (classes == len(known)).any() else known, classes


def _within(
    context: Context, current: Labelled, chosen: Sample, names: tuple[str, ...], classes: NDArray[np.intp]
) -> Within:
    """By class as the labels came: within a class the way they were chosen matters less, and counts stay exact."""
    right = current.correct[chosen.rows]
    before, n_reference = context.reference.class_accuracy, context.reference.labelled
    found: dict[str, dict[str, Any]] = {}
    excess = variance = rows = 0.0
    for number, name in enumerate(names):
        here = classes == number
        n, k = int(here.sum()), int(right[here].sum())
        was = before[number] if number < len(before) else None
        if n:
            found[name] = {"rows": n, "accuracy": k / n, "interval": list(wilson(k, n)), "baseline": was}
        if n and was is not None:
            m = max(1.0, context.reference.class_prior[number] * n_reference)
            smooth = (was * m + 1) / (m + 2)  # a class that was always right would allow no mistake at all
            excess += k - n * was
            variance += n * smooth * (1 - smooth) * (1 + n / m)
            rows += n
    if rows == 0:
        return Within(found, None, None)
    return Within(found, excess / rows, excess / math.sqrt(variance))


def _few(n: int, n_reference: int, classes: int) -> str:
    chance = (classes - 1) / 2 * (1 / n_reference + 1 / n)
    return f"{n} labels are too few to judge their mix: chance alone gives a KL of about {chance:.2f}."


def _explanation(
    names: tuple[str, ...],
    before: Array,
    after: Array,
    kl: float,
    p_value: float,
    drift: bool,
    within: Within,
    options: Options,
) -> str:
    most = int(np.abs(after - before).argmax())
    mix = (
        f"The mix of labels {'has moved' if drift else 'is as in the baseline'}: {names[most]} went from "
        f"{before[most]:.0%} to {after[most]:.0%} (KL {kl:.3f}, {in_words(p_value)})"
    )
    if within.z is None or within.change is None:
        return f"{mix}."
    if norm.sf(abs(within.z)) * 2 > options.within_alpha:
        return f"{mix}; within classes accuracy did not move ({within.change:+.1%})."
    return f"{mix}; within classes accuracy {'fell' if within.z < 0 else 'rose'} by {abs(within.change):.1%}."


DETECTOR = Detector("label_prior", Takes.LABELS, Options, run, _size)

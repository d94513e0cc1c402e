"""Calibration, accuracy and estimated accuracy by labels: bias, false alarms, power, coverage. Seeds are fixed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from migrations.schema.bins import from_rows
from migrations.schema.calibration_error import bootstrap_interval, debiased_ece, equal_mass
from monitor.detectors import catalogue, judge
from monitor.detectors._calibrated import joint_test
from monitor.detectors._temperature import proposal
from monitor.detectors.base import Score
from monitor.domain.intervals import Z95, wilson
from monitor.domain.window import FUSED, Labelled, Reference, Summary

TRIALS = 400
ALPHA = 0.05
FINE = 50
Array = NDArray[np.float64]
Answers = tuple[Array, NDArray[np.bool_]]
Law = Callable[[Array], Array]

CONFIDENCES: dict[str, Callable[[int, np.random.Generator], Array]] = {
    "uniform_0.4_to_0.99": lambda n, rng: rng.uniform(0.4, 0.99, n),
    "confident_mean_0.97": lambda n, rng: rng.beta(40, 1.2, n),
}
# How often answers of a confidence are right.
FAULTS: dict[str, Law] = {
    "overconfident_by_3": lambda c: np.clip(c - 0.03, 0, 1),
    "overconfident_by_5": lambda c: np.clip(c - 0.05, 0, 1),
    "overconfident_by_10": lambda c: np.clip(c - 0.1, 0, 1),
    "temperature_1.6": lambda c: 1 / (1 + np.exp(-np.log(c / (1 - c)) / 1.6)),
}


def drawn(law: str, n: int, trial: int, right: Law = lambda c: c) -> Answers:
    """N answers of one trial."""
    rng = np.random.default_rng([trial, n, len(law)])
    confidence = CONFIDENCES[law](n, rng)
    return confidence, rng.random(n) < right(confidence)


def share(flags: list[bool]) -> dict[str, Any]:
    """How often, with Wilson's 95% interval."""
    low, high = wilson(sum(flags), len(flags))
    return {
        "share": round(sum(flags) / len(flags), 3),
        "interval": [round(low, 3), round(high, 3)],
        "trials": len(flags),
    }


def mean(values: list[float], points: bool = True) -> dict[str, Any]:
    """The mean with its normal 95% interval, in points where `points`."""
    scale = 100 if points else 1
    found, error = scale * float(np.mean(values)), scale * Z95 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {"mean": round(found, 3), "interval": [round(found - error, 3), round(found + error, 3)]}


def plain_ece(confidence: Array, correct: NDArray[np.bool_], groups: int = 15) -> float:
    """What is usually reported."""
    found = equal_mass(confidence, correct, groups)
    return float(found.weight @ np.abs(found.accuracy - found.confidence))


def calibrated() -> dict[str, Any]:
    """Error and false alarms of calibrated answers."""
    found: dict[str, Any] = {}
    for law in CONFIDENCES:
        for n in (200, 1000, 10_000):
            trials = [drawn(law, n, trial) for trial in range(TRIALS)]
            found[f"{law}, n={n}"] = {
                "debiased_ece_points": mean([debiased_ece(*each) for each in trials]),
                "plain_15_groups_points": mean([plain_ece(*each) for each in trials]),
                "false_alarms_at_0.05": share([joint_test(*each).p_value <= ALPHA for each in trials]),
                "temperature_proposed": share([bool((p := proposal(*each)) and p.proposed) for each in trials[:200]]),
            }
    return found


def miscalibrated() -> dict[str, Any]:
    """Power at 0.05, the error found beside the true one, and coverage of nominal 90% intervals."""
    found: dict[str, Any] = {}
    for law in CONFIDENCES:
        for fault, right in FAULTS.items():
            for n in (200, 500, 1000, 5000):
                found[f"{law}, {fault}, n={n}"] = one_fault(law, n, right)
    return found


def one_fault(law: str, n: int, right: Law) -> dict[str, Any]:
    """One confidence law, fault and number of labels."""
    population = CONFIDENCES[law](200_000, np.random.default_rng(1))
    true = float(np.abs(right(population) - population).mean())
    trials = [drawn(law, n, trial, right) for trial in range(TRIALS // 2)]
    held, errors = [], []
    for trial, each in enumerate(trials):
        low, high = bootstrap_interval(equal_mass(*each), level=0.9, resamples=300, seed=trial)
        held.append(low <= true <= high)
        errors.append(debiased_ece(*each))
    return {
        "true_ece_points": round(100 * true, 2),
        "debiased_ece_points": mean(errors),
        "coverage_of_90%": share(held),
        "found_at_0.05": share([joint_test(*each).p_value <= ALPHA for each in trials]),
    }


def accuracy() -> dict[str, Any]:
    """Coverage and half width of the 95% interval: plain, from a queue with known probabilities, with confidences."""
    held: dict[str, list[bool]] = {}
    width: dict[str, list[float]] = {}
    for trial in range(TRIALS):
        for name, labels, truth in schemes(trial):
            score = judge(catalogue()["accuracy"], FUSED, Reference(1, "1", {}, accuracy=truth, labelled=2000), labels)
            low, high = score.interval or (0.0, 1.0)
            held.setdefault(name, []).append(low <= truth <= high)
            width.setdefault(name, []).append((high - low) / 2)
    return {
        name: {"coverage_of_95%": share(held[name]), "half_width_points": mean(width[name]), "about_labels": 400}
        for name in held
    }


def schemes(trial: int) -> list[tuple[str, Labelled, float]]:
    """About 400 labels of 20,000 answers, chosen in several ways, and the true accuracy."""
    rng = np.random.default_rng(trial)
    confidence = np.where(rng.random(20_000) < 0.3, rng.uniform(0.4, 0.7, 20_000), rng.uniform(0.85, 1, 20_000))
    correct = rng.random(20_000) < confidence
    truth = 0.3 * 0.55 + 0.7 * 0.925
    answers = np.histogram(confidence, FINE, (0, 1))[0].astype(np.float64)
    unsure = np.sqrt(confidence * (1 - confidence))
    chance = 400 * unsure / unsure.sum()
    plain, chosen = rng.random(20_000) < 0.02, rng.random(20_000) < chance
    first, queue = (confidence[plain], correct[plain]), (confidence[chosen], correct[chosen])
    return [
        ("plain sample", Labelled(*first), truth),
        ("plain sample, confidences of all", Labelled(*first, answers=answers), truth),
        ("unsure preferred, taken as a plain sample", Labelled(*queue), truth),
        ("unsure preferred, weighted", Labelled(*queue, sampling=chance[chosen]), truth),
        (
            "unsure preferred, weighted, confidences of all",
            Labelled(*queue, sampling=chance[chosen], answers=answers),
            truth,
        ),
    ]


def estimated() -> dict[str, Any]:
    """Error of estimated accuracy in points, and coverage of its 95% interval, by what has changed."""
    worlds: dict[str, Callable[[np.random.Generator], tuple[Array, float]]] = {
        "no shift": lambda rng: world(rng, 0.2, 0.0),
        "20% to 35% hard inputs": lambda rng: world(rng, 0.35, 0.0),
        "20% to 60% hard inputs, answered worse than such were": lambda rng: world(rng, 0.6, 0.08),
    }
    for relabelled in (0.1, 0.3):
        worlds[f"{relabelled:.0%} relabelled"] = lambda rng, r=relabelled: relabel(*world(rng, 0.2, 0.0), r)  # type: ignore[misc]
    found = {}
    for name, draw in worlds.items():
        errors, held = [], []
        for trial in range(TRIALS // 2):
            rng = np.random.default_rng([trial, len(name)])
            confidence, truth = draw(rng)
            score = estimate(rng, confidence)
            low, high = score.interval or (0.0, 1.0)
            errors.append((score.value or 0.0) - truth)
            held.append(low <= truth <= high)
        found[name] = {"error_points": mean(errors), "coverage_of_95%": share(held)}
    return found


def world(rng: np.random.Generator, hard: float, worse: float, n: int = 2000) -> tuple[Array, float]:
    """Confidences of n answers, overconfident by 5 points, hard ones by `worse` more; and their expected accuracy."""
    is_hard = rng.random(n) < hard
    confidence = np.where(is_hard, rng.uniform(0.4, 0.7, n), rng.uniform(0.85, 1, n))
    return confidence, hard * (0.5 - worse) + (1 - hard) * 0.875


def relabel(confidence: Array, truth: float, relabelled: float) -> tuple[Array, float]:
    """What was right is wrong for that share of answers."""
    return confidence, truth * (1 - relabelled)


def estimate(rng: np.random.Generator, confidence: Array) -> Score:
    """One window against a baseline of 2000 labelled rows."""
    before, _ = world(rng, 0.2, 0.0)
    correct = rng.random(len(before)) < before - 0.05
    known = Reference(
        1,
        "1",
        {FUSED: summarised(before)},
        labelled=len(before),
        confidence=tuple(np.histogram(before, FINE, (0, 1))[0].tolist()),
        confidence_correct=tuple(np.histogram(before[correct], FINE, (0, 1))[0].tolist()),
    )
    return judge(catalogue()["estimated_accuracy"], FUSED, known, summarised(confidence))


def summarised(confidence: Array) -> Summary:
    """As a worker adds confidences up."""
    fine = np.clip((confidence * FINE).astype(np.int64), 0, FINE - 1)
    return Summary(FUSED, {"rows": len(fine)}, from_rows({"confidence": np.eye(FINE)[fine]}, 8))


def run() -> dict[str, Any]:
    """All of it; about five minutes on one core."""
    return {
        "calibrated": calibrated(),
        "miscalibrated": miscalibrated(),
        "accuracy": accuracy(),
        "estimated_accuracy": estimated(),
    }

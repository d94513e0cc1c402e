"""Estimated accuracy, the mix of labels, reviews and false positives: oracles worked by hand, levels, coverage."""

from __future__ import annotations

import doctest
import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from migrations.schema.bins import from_rows
from monitor.detectors import catalogue, judge
from monitor.detectors.base import Score
from monitor.detectors.estimated_accuracy import CAVEAT, isotonic_map
from monitor.detectors.false_positives import rates
from monitor.domain.finding import Verdict
from monitor.domain.intervals import wilson
from monitor.domain.window import FUSED, IncomparableError, Labelled, Reference, Summary
from tests.support.labelled import CLASSES, FINE, REFERENCE, Array, answered, histogram, judged


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1)), min_size=2, max_size=FINE))
def test_the_isotonic_map_is_that_of_the_min_max_formula(cells: list[tuple[int, float]]) -> None:
    count = np.array([n for n, _ in cells], np.float64)
    count[0] += 1
    right = np.round(count * np.array([share for _, share in cells]))
    found = isotonic_map(count, right)
    seen = np.flatnonzero(count)
    # the largest over starts of the smallest mean over ends (Barlow et al. 1972, 1.9)
    for place, i in enumerate(seen):
        means = [
            min(
                right[seen[start : end + 1]].sum() / count[seen[start : end + 1]].sum()
                for end in range(place, len(seen))
            )
            for start in range(place + 1)
        ]
        assert found[i] == pytest.approx(max(means), abs=1e-9)
    assert (np.diff(found) >= -1e-12).all()


def summarised(confidence: Array, q: int = 8) -> Summary:
    fine = np.clip((confidence * FINE).astype(int), 0, FINE - 1)
    return Summary(
        FUSED, {"rows": len(fine), "fused": len(fine)}, from_rows({"confidence": np.eye(FINE)[fine]}, q), "e"
    )


def reference_of(confidence: Array, correct: NDArray[np.bool_]) -> Reference:
    return replace(
        REFERENCE,
        summaries={FUSED: summarised(confidence)},
        confidence=tuple(histogram(confidence).astype(int)),
        confidence_correct=tuple(histogram(confidence[correct]).astype(int)),
    )


def estimated(reference: Reference, confidence: Array, **options: Any) -> Score:
    detector = catalogue()["estimated_accuracy"]
    return judge(detector, FUSED, reference, summarised(confidence), detector.options(**options))


def overconfident(n: int, rng: np.random.Generator, hard: float) -> Answers:
    """A share `hard` of answers with low confidence; all right by 0.1 less often than they claim."""
    confidence = np.where(rng.random(n) < hard, rng.uniform(0.4, 0.7, n), rng.uniform(0.85, 1, n))
    return confidence, rng.random(n) < confidence - 0.1


Answers = tuple[Array, NDArray[np.bool_]]


def test_accuracy_is_estimated_where_inputs_shift_and_meaning_does_not() -> None:
    """40 intervals of 95% under a shift from 20% to 50% hard answers: fewer than 33 that hold are below 1 in 10,000."""
    held, errors = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        score = estimated(reference_of(*overconfident(2000, rng, 0.2)), overconfident(2000, rng, 0.5)[0])
        truth = 0.5 * 0.45 + 0.5 * 0.825
        assert score.interval is not None
        assert score.value is not None
        held += score.interval[0] <= truth <= score.interval[1]
        errors.append(score.value - truth)
    assert held >= 33
    assert abs(np.mean(errors)) < 0.01


def test_the_estimate_is_blind_to_a_changed_meaning_and_says_so() -> None:
    rng = np.random.default_rng(1)
    known = reference_of(*overconfident(2000, rng, 0.2))
    score = estimated(known, overconfident(2000, rng, 0.2)[0])  # whatever the truth has become
    assert abs(score.effect or 0) < 0.02
    assert score.verdict is Verdict.OK
    assert CAVEAT in score.explanation


def test_without_a_target_the_estimate_is_a_trend() -> None:
    rng = np.random.default_rng(2)
    known, worse = reference_of(*overconfident(2000, rng, 0.1)), overconfident(2000, rng, 0.9)[0]
    trend, held = estimated(known, worse), estimated(known, worse, target=0.7)
    assert (trend.verdict, held.verdict) == (Verdict.OK, Verdict.DRIFT)
    assert (trend.effect or 0) > 0.2
    assert (trend.p_value or 1) < 1e-6


def test_an_estimate_needs_labelled_rows_and_the_same_bins() -> None:
    rng = np.random.default_rng(3)
    confidence, correct = overconfident(500, rng, 0.2)
    known = reference_of(confidence, correct)
    unlabelled = replace(known, confidence=(), confidence_correct=())
    assert estimated(unlabelled, confidence).verdict is Verdict.NO_BASELINE
    with pytest.raises(IncomparableError, match="bins"):
        estimated(replace(known, confidence=(1, 2), confidence_correct=(1, 1)), confidence)


def test_a_moved_mix_is_told_apart_from_worse_answers() -> None:
    moved = judged("label_prior", answered(2000, 6, prior=(0.1, 0.3, 0.6)))
    assert moved.verdict is Verdict.DRIFT
    assert "within classes accuracy did not move" in moved.explanation
    worse = judged("label_prior", answered(2000, 7, right=(0.8, 0.75, 0.6)))
    assert worse.verdict is Verdict.OK
    assert "within classes accuracy fell by 15" in worse.explanation
    # accuracy itself cannot tell: the moved mix alone costs more than five points
    assert judged("accuracy", answered(2000, 6, prior=(0.1, 0.3, 0.6))).verdict is Verdict.DRIFT


def test_the_divergence_of_labels_by_hand() -> None:
    rows = answered(1000, 8)
    assert rows.label is not None
    counts = np.array([(rows.label == name).sum() for name in CLASSES], np.float64)
    q, p = (counts + 0.5) / (counts + 0.5).sum(), (np.array([1000, 600, 400]) + 0.5) / 2001.5
    assert judged("label_prior", rows).value == pytest.approx(float((q * np.log(q / p)).sum()))


def test_false_alarms_about_the_mix_of_labels() -> None:
    """200 samples of the baseline's mix at 0.05, in sessions of 8 and without: 10 expected, 25 is below 1 in 10,000."""
    for session in (1, 8):
        alarms = 0
        for seed in range(200):
            rng = np.random.default_rng(seed)
            truth = np.repeat(rng.choice(3, 640 // session, p=(0.5, 0.3, 0.2)), session)
            names = np.array(CLASSES)[truth]
            rows = Labelled(np.full(640, 0.9), np.ones(640, np.bool_), predicted=names, label=names)
            alarms += (judged("label_prior", rows).p_value or 0) <= 0.05
        assert alarms < 25


def test_labels_of_no_known_class_count_as_one() -> None:
    rows = answered(1000, 9)
    assert rows.label is not None
    label = np.where(np.arange(1000) < 300, "something new", rows.label)
    score = judged("label_prior", replace(rows, label=label, correct=np.asarray(rows.predicted == label)))
    assert score.verdict is Verdict.DRIFT
    assert "unknown to the model went from 0% to 30%" in score.explanation


def test_a_baseline_without_a_mix_of_labels_judges_none() -> None:
    assert judged("label_prior", answered(500, 0), replace(REFERENCE, class_prior=())).verdict is Verdict.NO_BASELINE


def test_the_review_rate_counts_reviews_over_answers() -> None:
    rows = replace(answered(300, 0), source=np.repeat(["human_review", "user", "ground_truth"], 100), answered=2000)
    score = judged("review_rate", rows, None)
    assert score.value == pytest.approx(0.05)
    assert score.interval == pytest.approx(wilson(100, 2000))
    assert score.n_current == 2000
    assert score.verdict is Verdict.OK
    assert judged("review_rate", rows, None, target=0.02).verdict is Verdict.DRIFT
    assert judged("review_rate", rows, None, target=0.045).verdict is Verdict.OK  # the interval reaches below
    assert judged("review_rate", replace(rows, answered=None), None).verdict is Verdict.NO_DATA
    assert judged("review_rate", replace(rows, answered=50), None).verdict is Verdict.INSUFFICIENT


def test_a_window_without_any_label_has_a_review_rate_of_zero() -> None:
    nothing = Labelled(np.zeros(0), np.zeros(0, np.bool_), source=np.zeros(0, np.str_), answered=500)
    assert judged("review_rate", nothing, None).value == 0


def test_false_positive_rates_are_those_of_the_confusion_matrix() -> None:
    rows = answered(800, 10)
    assert rows.predicted is not None
    assert rows.label is not None
    table = np.array([[((rows.label == t) & (rows.predicted == p)).sum() for p in CLASSES] for t in CLASSES])
    wrong = table.sum(axis=0) - np.diag(table)
    others = table.sum() - table.sum(axis=1)
    found = rates(rows.predicted, rows.label, np.ones(800))
    assert [each.wrong for each in found] == wrong.tolist()
    assert [each.estimate.value for each in found] == pytest.approx(wrong / others)
    score = judged("false_positives", rows, None)
    assert score.value == pytest.approx(float((wrong / others).mean()))
    assert score.details["worst"] == CLASSES[int((wrong / others).argmax())]
    worst = score.details["classes"][score.details["worst"]]["interval"]
    z = stats.norm.isf(0.025 / 3)
    place = int((wrong / others).argmax())
    assert worst == pytest.approx(wilson(int(wrong[place]), int(others[place]), z))


def test_targets_of_false_positives() -> None:
    rows = answered(2000, 11)
    value = judged("false_positives", rows, None).value or 0
    assert judged("false_positives", rows, None, target=value / 2).verdict is Verdict.DRIFT
    assert judged("false_positives", rows, None, target=value).verdict is Verdict.OK
    assert judged("false_positives", rows, None, worst_target=value / 2).verdict is Verdict.DRIFT


def test_the_macro_interval_holds_the_rate() -> None:
    """200 intervals of 95%: fewer than 178 that hold the truth are below 1 in 1000."""
    # a is answered for wrong c, b for wrong a, c for wrong b
    truth = float(np.mean([0.2 * 0.225 / 0.5, 0.5 * 0.05 / 0.7, 0.3 * 0.1 / 0.8]))
    held = 0
    for seed in range(200):
        interval = judged("false_positives", answered(500, seed), None).interval
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    assert held >= 178


def test_verdicts_of_reviewers_are_counted_and_free_text_is_not_repeated() -> None:
    verdict = np.resize(["false positive", "Correct", "", "he wrote his name here"], 400)
    details = judged("false_positives", replace(answered(400, 12), verdict=verdict), None).details
    assert details["reviewers"] == {
        "correct": 100,
        "false_positive": 100,
        "false_negative": 0,
        "other": 100,
        "false_positive_share": 0.5,
    }
    assert "name" not in str(details["reviewers"])


def test_one_class_alone_tells_of_no_false_positive() -> None:
    same = np.full(300, "a")
    rows = Labelled(np.full(300, 0.9), np.ones(300, np.bool_), predicted=same, label=same)
    assert judged("false_positives", rows, None).verdict is Verdict.INSUFFICIENT


@pytest.mark.parametrize(
    "module",
    [
        "migrations.schema.calibration_error",
        *(f"monitor.detectors.{name}" for name in ("accuracy", "calibration", "estimated_accuracy")),
        *(f"monitor.detectors.{name}" for name in ("false_positives", "label_prior", "review_rate")),
    ],
)
def test_the_examples_run(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0

"""Shares from labels, and accuracy without: oracles worked by hand, laws, and coverage under known sampling."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Sequence
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
from monitor.detectors._sampling import effective_rows, hajek, powered, sample
from monitor.detectors.base import Score
from monitor.detectors.estimated_accuracy import CAVEAT, isotonic_map
from monitor.detectors.false_positives import rates
from monitor.domain.finding import Verdict
from monitor.domain.intervals import wilson
from monitor.domain.window import FUSED, IncomparableError, Labelled, Reference, Summary

Array = NDArray[np.float64]
CLASSES = ("a", "b", "c")
REFERENCE = Reference(
    1, "1", {}, CLASSES, accuracy=0.9, labelled=2000, class_prior=(0.5, 0.3, 0.2), class_accuracy=(0.95, 0.9, 0.775)
)
FINE = 50


def judged(name: str, labelled: Labelled, reference: Reference | None = REFERENCE, **options: Any) -> Score:
    detector = catalogue()[name]
    return judge(detector, FUSED, reference, labelled, detector.options(**options))


def answered(
    n: int, seed: int, prior: Sequence[float] = (0.5, 0.3, 0.2), right: Sequence[float] = (0.95, 0.9, 0.775)
) -> Labelled:
    """N labelled answers with the reference's mix and accuracy of each class, or another."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=prior)
    correct = rng.random(n) < np.asarray(right)[truth]
    predicted = np.where(correct, truth, (truth + 1) % 3)
    names = np.array(CLASSES)
    return Labelled(rng.uniform(0.5, 1, n), correct, predicted=names[predicted], label=names[truth])


def test_a_plain_sample_gives_the_plain_share_and_wilsons_interval() -> None:
    rows = answered(400, 0)
    score = judged("accuracy", rows)
    right = int(rows.correct.sum())
    assert score.value == pytest.approx(right / 400)
    assert score.interval == pytest.approx(wilson(right, 400))
    error = np.sqrt((pooled := (right + 1800) / 2400) * (1 - pooled) * (1 / 400 + 1 / 2000))
    assert score.p_value == pytest.approx(stats.norm.sf((0.9 - right / 400) / error))


def test_the_weighted_share_by_hand() -> None:
    found = hajek(np.array([1.0, 0.0, 1.0]), np.array([1.0, 2.0, 1.0]))
    assert found.value == pytest.approx(0.5)
    # Σw²(y - ½)² / (Σw)² = (1 + 4 + 1) / 4 / 16, and ½·½ over it
    assert found.rows == pytest.approx(0.25 / (6 / 64))
    assert effective_rows(np.array([1.0, 2.0, 1.0])) == pytest.approx(16 / 6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 1)), min_size=1, max_size=50))
def test_weighted_shares_lie_within_their_intervals(rows: list[tuple[bool, float]]) -> None:
    values, chance = (np.array(each, np.float64) for each in zip(*rows, strict=True))
    found = hajek(values, 1 / chance)
    low, high = found.interval()
    assert 0 <= low <= found.value + 1e-12
    assert found.value <= high + 1e-12 <= 1 + 1e-9
    assert found.rows >= 1


def test_labels_of_unknown_selection_are_not_mixed_with_chosen_ones() -> None:
    rows = answered(300, 1)
    few, many = np.full(300, np.nan), np.full(300, np.nan)
    few[:40], many[:260] = 0.5, 0.5
    unweighted, weighted = sample(replace(rows, sampling=few)), sample(replace(rows, sampling=many))
    assert (len(unweighted.rows), unweighted.weighted) == (260, False)
    assert (len(weighted.rows), weighted.weighted) == (260, True)
    assert sample(replace(rows, sampling=np.full(300, np.nan))).weighted is False


def test_coverage_where_a_queue_prefers_unsure_answers() -> None:
    """200 intervals of 95%: fewer than 178 that hold the truth are below 1 in 1000. The plain ones mostly miss it."""
    held = missed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(0.4, 1, 4000)
        correct = rng.random(4000) < confidence
        chance = np.clip(1.1 - confidence, 0.1, 0.6)
        taken = rng.random(4000) < chance
        rows = Labelled(confidence[taken], correct[taken])
        weighted, plain = judged("accuracy", replace(rows, sampling=chance[taken])), judged("accuracy", rows)
        assert weighted.interval is not None
        assert plain.interval is not None
        held += weighted.interval[0] <= 0.7 <= weighted.interval[1]
        missed += not plain.interval[0] <= 0.7 <= plain.interval[1]
    assert held >= 178
    assert missed >= 190


def histogram(confidence: Array) -> Array:
    return np.histogram(confidence, FINE, (0, 1))[0].astype(np.float64)


def test_confidences_of_all_answers_narrow_the_interval_and_keep_its_coverage() -> None:
    """200 intervals of 95%: fewer than 178 that hold the truth are below 1 in 1000."""
    held, narrower, better = 0, [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        confidence = np.where(rng.random(20_400) < 0.5, rng.uniform(0.35, 0.6, 20_400), rng.uniform(0.9, 1, 20_400))
        correct = rng.random(20_400) < confidence
        truth = (0.475 + 0.95) / 2
        rows = Labelled(confidence[:400], correct[:400], answers=histogram(confidence[400:]))
        score = judged("accuracy", rows)
        assert score.interval is not None
        held += score.interval[0] <= truth <= score.interval[1]
        narrower.append(score.details["confidences"]["narrower"])
        better.append(abs((score.value or 0) - truth) - abs(correct[:400].mean() - truth))
    assert held >= 178
    assert np.mean(narrower) > 0.08
    assert np.mean(better) < 0


def test_the_prediction_powered_estimate_by_hand() -> None:
    """Without weights: λ = Cov(y, f) / (Var f (1 + n / N)) and θ = mean y - λ(mean f - mean of all f)."""
    rng = np.random.default_rng(2)
    middles = (np.arange(FINE) + 0.5) / FINE
    labelled, everything = middles[rng.integers(20, 50, 100)], middles[rng.integers(20, 50, 1000)]
    right = (rng.random(100) < labelled).astype(np.float64)
    found = powered(right, labelled, np.ones(100, np.bool_), np.ones(100), histogram(everything))
    assert found is not None
    covariance = np.cov(right, labelled, bias=True)
    tuning = covariance[0, 1] / (covariance[1, 1] + everything.var() * 100 / 1000)
    assert found.tuning == pytest.approx(tuning)
    assert found.estimate.value == pytest.approx(right.mean() - tuning * (labelled.mean() - everything.mean()))


def test_confidences_that_tell_nothing_change_nothing() -> None:
    rows = replace(answered(500, 3), confidence=np.full(500, 0.8))
    score = judged("accuracy", replace(rows, answers=histogram(np.full(9000, 0.8))))
    assert score.value == pytest.approx(rows.correct.mean())
    none_whole = replace(rows, answers=histogram(np.full(9000, 0.8)), pattern=np.full(500, "fallback:text"))
    assert judged("accuracy", none_whole).details["confidences"] is None


def test_accuracy_by_pattern_and_share_of_labels() -> None:
    rows = replace(answered(600, 4), pattern=np.repeat(["fused", "fallback:image"], [450, 150]), answered=30_000)
    score = judged("accuracy", rows)
    image = score.details["patterns"]["fallback:image"]
    assert image["accuracy"] == pytest.approx(rows.correct[450:].mean())
    assert image["interval"] == pytest.approx(wilson(int(rows.correct[450:].sum()), 150))
    assert score.details["selection"]["label_share"] == pytest.approx(0.02)
    assert "2.0% of all answers" in score.explanation


def test_few_labels_tell_what_they_can_of_accuracy() -> None:
    score = judged("accuracy", answered(40, 5))
    assert score.verdict is Verdict.INSUFFICIENT
    assert None not in (score.value, score.p_value, score.effect, score.interval)


@settings(max_examples=60, deadline=None)
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


def test_impossible_sampling_probabilities_are_refused() -> None:
    for wrong in (0.0, -0.5, 1.5):
        with pytest.raises(ValueError, match="sampling probabilities"):
            replace(answered(3, 0), sampling=np.array([0.5, wrong, np.nan]))
    with pytest.raises(ValueError, match="disagree about their number"):
        replace(answered(3, 0), source=np.array(["user"]))

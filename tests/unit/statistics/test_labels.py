"""Calibration by labels: oracles worked by hand or by SciPy, laws, and levels under the hypothesis."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats

from migrations.schema.calibration_error import Groups, absolute_gaps, debiased, debiased_ece, equal_mass
from monitor.detectors import catalogue, judge
from monitor.detectors._calibrated import gap_z, joint_test, smallest_gap, spiegelhalter_z
from monitor.detectors._temperature import proposal, refit
from monitor.detectors.base import Score
from monitor.detectors.calibration import brier
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, Labelled, Reference

Array = NDArray[np.float64]
Answers = tuple[Array, NDArray[np.bool_]]


def drawn(n: int, seed: int, gap: float = 0.0) -> Answers:
    """N answers, right with probability confidence - gap."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.4, 0.99, n)
    return confidence, rng.random(n) < np.clip(confidence - gap, 0, 1)


def judged(answers: Answers, reference: Reference | None = None, **known: object) -> Score:
    return judge(catalogue()["calibration"], FUSED, reference, replace(Labelled(*answers), **known))  # type: ignore[arg-type]


answers_of_any_kind = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(0, 1), min_size=n, max_size=n).map(lambda each: np.array(each, np.float64)),
        st.lists(st.booleans(), min_size=n, max_size=n).map(lambda each: np.array(each, np.bool_)),
    )
)


def test_groups_by_hand() -> None:
    groups = equal_mass(np.array([0.9, 0.5, 0.7, 0.6]), np.array([True, False, True, True]), groups=2)
    assert groups.confidence == pytest.approx([0.55, 0.8])
    assert groups.accuracy == pytest.approx([0.5, 1.0])
    assert groups.weight == pytest.approx([0.5, 0.5])
    assert groups.rows == pytest.approx([2, 2])
    # weights 1 and 3: a share of ¾ of the group right, (1 + 3)² / (1 + 9) effective rows
    weighted = equal_mass(np.array([0.5, 0.5]), np.array([False, True]), 1, np.array([1.0, 3.0]))
    assert (weighted.accuracy[0], weighted.rows[0]) == pytest.approx((0.75, 1.6))
    with pytest.raises(ValueError, match="no answers"):
        equal_mass(np.zeros(0), np.zeros(0, np.bool_))


def test_a_debiased_gap_is_what_random_halves_give() -> None:
    """The sign of one half's gap times the other half's gap, over splits of a normal gap with standard error s."""
    rng = np.random.default_rng(0)
    n, confidence, accuracy = 400, 0.8, 0.83
    groups = Groups(*(np.array([x], np.float64) for x in (confidence, accuracy, 1.0, n)))
    spread = (n * accuracy + 2 * confidence) / (n + 2)
    error = math.sqrt(spread * (1 - spread) / n)
    between = error * rng.normal(size=400_000)
    halves = np.sign(0.03 + between) * (0.03 - between)
    assert absolute_gaps(groups)[0] == pytest.approx(halves.mean(), abs=4 * halves.std() / math.sqrt(len(halves)))


@pytest.mark.parametrize(("n", "most"), [(200, 0.015), (1000, 0.008), (10_000, 0.005)])
def test_the_error_of_a_calibrated_model_is_near_zero(n: int, most: float) -> None:
    found = [debiased_ece(*drawn(n, seed)) for seed in range(100)]
    assert np.mean(found) + 3 * np.std(found) / 10 < 1.4 * most
    assert np.mean(found) < most


@pytest.mark.parametrize("gap", [0.05, 0.1, 0.3])
def test_a_known_error_is_measured(gap: float) -> None:
    found = np.array([debiased_ece(*drawn(5000, seed, gap)) for seed in range(20)])
    assert found.mean() == pytest.approx(gap, abs=4 * found.std() / math.sqrt(20) + 0.003)


@settings(max_examples=60)
@given(answers_of_any_kind)
def test_the_error_is_a_share_whatever_the_answers(answers: Answers) -> None:
    found = debiased_ece(*answers)
    assert 0 <= found <= 1
    plain = float((g := equal_mass(*answers)).weight @ np.abs(g.accuracy - g.confidence))
    assert found <= plain + 1e-12
    assert math.copysign(1, found) == 1


@settings(max_examples=40)
@given(answers_of_any_kind, st.floats(0.1, 10))
def test_only_relative_weights_count(answers: Answers, scale: float) -> None:
    confidence, correct = answers
    equal = equal_mass(confidence, correct, weight=np.full(len(confidence), scale))
    assert debiased(equal) == pytest.approx(debiased(equal_mass(confidence, correct)), abs=1e-9)


def test_brier_by_hand() -> None:
    confidence, correct = np.array([0.9, 0.6]), np.array([True, False])
    assert brier(confidence, correct) == pytest.approx((0.01 + 0.36) / 2)
    assert brier(confidence, correct, np.array([1.0, 3.0])) == pytest.approx((0.01 + 3 * 0.36) / 4)


def test_the_joint_test_by_hand() -> None:
    confidence, correct = drawn(2000, 3, gap=0.03)
    residual, slope = correct - confidence, 1 - 2 * confidence
    variance = confidence * (1 - confidence)
    sums = np.array([residual.sum(), (residual * slope).sum()])
    covariance = np.array(
        [[variance.sum(), (variance * slope).sum()], [(variance * slope).sum(), (variance * slope**2).sum()]]
    )
    expected = stats.chi2.sf(sums @ np.linalg.solve(covariance, sums), 2)
    found = joint_test(confidence, correct)
    assert not found.drawn
    # 2000 answers are grouped by eights of nearly equal confidence
    assert found.p_value == pytest.approx(expected, rel=0.02)
    assert found.gap_z == gap_z(confidence, correct) < -2
    assert found.spiegelhalter_z == spiegelhalter_z(confidence, correct)


def test_few_expected_mistakes_are_judged_by_the_exact_law() -> None:
    """All answers equally sure: the sums say what the number of right answers says, and that is binomial."""
    confidence = np.full(60, 0.97)
    law = stats.binom(60, 0.97)
    for wrong in (0, 2, 4, 6):
        correct = np.arange(60) >= wrong
        distance = np.abs(np.arange(61) - 60 * 0.97)
        exact = min(1.0, law.pmf(np.arange(61))[distance >= distance[60 - wrong] - 1e-9].sum())
        found = joint_test(confidence, correct)
        assert found.drawn
        assert found.p_value == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 1999) + 1 / 2000)


@pytest.mark.parametrize("confident", [False, True])
def test_level_of_the_joint_test(confident: bool) -> None:
    """150 calibrated samples of 200 answers: 7.5 false alarms expected at 0.05; beyond 1..17 lies 1 in 1000."""
    alarms = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        confidence = rng.beta(40, 1.2, 200) if confident else rng.uniform(0.4, 0.99, 200)
        alarms += joint_test(confidence, rng.random(200) < confidence).p_value <= 0.05
    assert 1 <= alarms <= 17


def test_certain_answers() -> None:
    certain = np.ones(50)
    assert joint_test(certain, np.ones(50, np.bool_)).p_value == 1
    assert joint_test(certain, np.arange(50) > 0).p_value < 1e-3


def test_the_p_value_falls_on_beyond_the_draws() -> None:
    confidence = np.full(300, 0.97)
    found = [joint_test(confidence, np.arange(300) >= wrong).p_value for wrong in range(10, 120, 10)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-12


def test_the_gap_that_few_labels_can_show_has_the_power_it_says() -> None:
    confidence = np.full(400, 0.8)
    gap = smallest_gap(confidence, alpha=0.01)
    found = sum(
        abs(gap_z(confidence, np.random.default_rng(seed).random(400) < 0.8 - gap)) > stats.norm.isf(0.005)
        for seed in range(400)
    )
    assert 0.7 < found / 400 < 0.9


def logits(n: int, classes: int, seed: int, temperature: float) -> tuple[Array, NDArray[np.intp]]:
    """Log probabilities of a model whose logits are too large by `temperature`, and truth drawn at the honest ones."""
    rng = np.random.default_rng(seed)
    honest = 2 * rng.normal(size=(n, classes))
    honest -= np.log(np.exp(honest).sum(axis=1, keepdims=True))
    truth = np.array([rng.choice(classes, p=np.exp(row)) for row in honest], np.intp)
    scaled = honest * temperature
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)), truth


def test_the_temperature_minimises_log_loss() -> None:
    z, truth = logits(500, 4, 0, 1.7)

    def loss(temperature: float) -> float:
        p = np.exp(z / temperature)
        return float(-np.log((p / p.sum(axis=1, keepdims=True))[np.arange(500), truth]).mean())

    oracle = optimize.minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-6})
    assert refit(z, truth) == pytest.approx(oracle.x, rel=1e-3)


def test_an_honest_model_needs_no_other_temperature_and_an_overconfident_one_does() -> None:
    for temperature, wanted in ((1.0, False), (1.8, True), (0.6, True)):
        z, truth = logits(2000, 3, 1, temperature)
        p = np.exp(z)
        correct = p.argmax(axis=1) == truth
        found = proposal(p.max(axis=1), correct, p, truth)
        assert found is not None
        assert found.proposed is wanted
        assert found.interval[0] < temperature < found.interval[1]
        assert found.gain_interval[0] <= found.gain <= found.gain_interval[1]
        if wanted:
            assert found.ece_after < debiased_ece(p.max(axis=1), correct)


def test_of_two_classes_the_top_one_tells_all() -> None:
    z, truth = logits(800, 2, 2, 1.5)
    p = np.exp(z)
    correct = p.argmax(axis=1) == truth
    whole, top = proposal(p.max(axis=1), correct, p, truth), proposal(p.max(axis=1), correct)
    assert whole is not None
    assert top is not None
    assert whole.temperature == pytest.approx(top.temperature, rel=1e-4)
    assert whole.ece_after == pytest.approx(top.ece_after, abs=1e-6)


def test_no_temperature_is_proposed_from_next_to_nothing() -> None:
    assert proposal(*drawn(150, 0, 0.2)) is None
    assert proposal(np.full(1000, 0.9), np.ones(1000, np.bool_)) is None


def test_the_interval_of_the_temperature_holds_it() -> None:
    """40 intervals of 95%: fewer than 33 that hold the truth are below 1 in 10,000."""
    held = 0
    for seed in range(40):
        z, truth = logits(600, 3, 100 + seed, 1.4)
        p = np.exp(z)
        found = proposal(p.max(axis=1), p.argmax(axis=1) == truth, p, truth)
        assert found is not None
        held += found.interval[0] < 1.4 < found.interval[1]
    assert held >= 33


def test_few_labels_decide_nothing_but_tell_everything() -> None:
    score = judged(drawn(200, 4, gap=0.3))
    assert score.verdict is Verdict.INSUFFICIENT
    assert None not in (score.value, score.p_value, score.effect, score.interval)
    assert (score.p_value or 0) < 1e-6
    assert "hardly have been seen" in score.explanation


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_widens_with_its_level_and_holds_the_value(level: float) -> None:
    score = judge(
        catalogue()["calibration"],
        FUSED,
        None,
        Labelled(*drawn(2000, 5, gap=0.1)),
        catalogue()["calibration"].options(level=level),
    )
    assert score.interval is not None
    assert score.interval[0] < (score.value or 0) < score.interval[1]
    width = score.interval[1] - score.interval[0]
    # the gap's standard error is about √(0.21 / 2000) = 1 point
    assert width == pytest.approx(2 * stats.norm.ppf((1 + level) / 2) * 0.0105, rel=0.3)


def test_each_pattern_and_class_is_judged_by_itself() -> None:
    """Answers from the text alone are overconfident; those from both are not."""
    fused, alone = drawn(1500, 6), drawn(500, 7, gap=0.2)
    confidence, correct = (np.concatenate(pair) for pair in zip(fused, alone, strict=True))
    pattern = np.repeat(["fused", "fallback:text"], [1500, 500])
    score = judged((confidence, correct), pattern=pattern, predicted=np.resize(["a", "b"], 2000))
    patterns, classes = score.details["patterns"], score.details["classes"]
    assert patterns["fallback:text"]["gap"] == pytest.approx(-0.2, abs=0.06)
    assert abs(patterns["fused"]["gap_z"]) < 3 < abs(patterns["fallback:text"]["gap_z"])
    assert patterns["fused"]["ece"] < 0.03 < patterns["fallback:text"]["ece"]
    assert sum(each["rows"] for each in classes.values()) == 2000


def test_sampling_probabilities_undo_what_the_queue_chose() -> None:
    """A queue that prefers unsure answers, which are overconfident: weights bring the share of all answers back."""
    rng = np.random.default_rng(8)
    confidence = rng.choice([0.6, 0.95], 40_000, p=[0.2, 0.8])
    correct = rng.random(40_000) < np.where(confidence < 0.9, 0.3, 0.95)
    chance = np.where(confidence < 0.9, 0.5, 0.05)
    taken = rng.random(40_000) < chance
    rows = confidence[taken], correct[taken]
    weighted, plain = judged(rows, sampling=chance[taken]), judged(rows)
    assert plain.value == pytest.approx(0.2, abs=0.03)  # most labels are of the overconfident kind
    assert weighted.value == pytest.approx(0.06, abs=0.015)  # 0.3 off for a fifth of the answers
    assert weighted.details["selection"]["weighted"]


def test_a_temperature_is_proposed_in_the_words() -> None:
    z, truth = logits(3000, 3, 9, 2.5)
    p, names = np.exp(z), np.array(["a", "b", "c"])
    answers = p.max(axis=1), p.argmax(axis=1) == truth
    score = judged(answers, Reference(1, "1", {}, ("a", "b", "c")), probabilities=p, label=names[truth])
    assert score.verdict is Verdict.DRIFT
    assert "A temperature 2." in score.explanation
    assert score.details["temperature"]["temperature"] == pytest.approx(2.5, rel=0.15)

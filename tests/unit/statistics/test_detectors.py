"""Each detector against a hand-computed case or SciPy, and what the shipped stories need it to find."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from inference.baseline import Baseline
from migrations.schema.bins import from_rows
from monitor.detectors import catalogue, judge
from monitor.detectors._binned import row_sd, welch
from monitor.detectors.base import Score
from monitor.detectors.calibration import brier, gap_z, spiegelhalter_z
from monitor.detectors.class_drift import dispersion, divergences, g_test
from monitor.detectors.embedding_mmd import bin_permutation_test
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, Evidence, Labelled, Reference, Summary
from tests.support.streams import Fault, answers, baseline, evidence, reference


def availability(**counts: int) -> Score:
    return judge(catalogue()["availability"], "image", None, Summary("image", counts))


def test_a_dead_modality_is_gone_and_a_worse_one_degraded() -> None:
    gone, worse = availability(missing=200), availability(present=150, corrupt=40, missing=10)
    assert (gone.verdict, gone.value, gone.details["state"]) == (Verdict.DRIFT, 0.0, "gone")
    assert (worse.verdict, worse.details["state"]) == (Verdict.DRIFT, "degraded")
    assert "40 corrupt, 10 missing" in worse.explanation


def test_a_few_unlucky_requests_are_no_outage() -> None:
    assert availability(present=98, missing=2).verdict is Verdict.OK
    assert availability(present=960, missing=40).verdict is Verdict.DRIFT


def test_welch_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(20, 4)), rng.normal(0.3, 2, (31, 4))
    assert welch(one, other) == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue)


def test_row_spread_is_recovered_from_bin_sums() -> None:
    values = np.random.default_rng(0).normal(5, 2, (8000, 1))
    assert row_sd(from_rows({"x": values}, 8), "x", "test")[0] == pytest.approx(2, rel=0.05)


def test_divergences_by_hand() -> None:
    # with the half row of Jeffreys' prior the proportions are ¾, ¼ and ¼, ¾
    found = divergences(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert found["kl"] == pytest.approx(0.5 * math.log(3))
    assert found["psi"] == pytest.approx(math.log(3))
    assert found["js"] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert divergences(np.array([5.0, 9.0]), np.array([5.0, 9.0])) == {"kl": 0, "js": 0, "psi": 0}


def test_the_g_test_agrees_with_scipy() -> None:
    reference_counts, window_counts = np.array([50.0, 30, 20]), np.array([40.0, 45, 15])
    expected = stats.chi2_contingency([reference_counts, window_counts], correction=False, lambda_="log-likelihood")
    assert g_test(reference_counts, window_counts) == pytest.approx(expected.pvalue)
    assert g_test(np.array([10.0, 0, 0]), np.array([12.0, 0, 0])) == 1


def test_dispersion_is_one_for_independent_rows_and_the_session_length_for_sessions() -> None:
    rng = np.random.default_rng(0)
    rows = np.eye(3)[rng.integers(0, 3, 4096)]
    assert dispersion(from_rows({"classes": rows}, 8), 512)[0] == pytest.approx(1, abs=0.15)
    repeated = np.repeat(rows[:512], 8, axis=0)
    assert dispersion(from_rows({"classes": repeated}, 8), 64)[0] == pytest.approx(8, rel=0.4)


def test_the_permutation_test_agrees_with_trying_every_permutation() -> None:
    rng = np.random.default_rng(4)
    reference_bins, window_bins = rng.normal(size=(4, 2)), rng.normal(0.9, 1, (4, 2))
    both = np.vstack([reference_bins, window_bins])

    def distance(chosen: tuple[int, ...]) -> float:
        window = list(chosen[4:])
        rest = list(chosen[:4])
        return float(np.square(both[window].mean(axis=0) - both[rest].mean(axis=0)).sum())

    every = [distance(order) for order in set(permutations(range(8)))]
    exact = np.mean(np.asarray(every) >= distance(tuple(range(8))) - 1e-12)
    found = bin_permutation_test(reference_bins, window_bins, permutations=9999)
    assert found.p_value == pytest.approx(exact, abs=0.02)


def test_calibration_scores_by_hand() -> None:
    confidence, correct = np.array([0.9, 0.6]), np.array([True, False])
    # Σ(y - c) = 0.1 - 0.6, Σ c(1 - c) = 0.09 + 0.24
    assert gap_z(confidence, correct) == pytest.approx(-0.5 / math.sqrt(0.33))
    # Σ(y - c)(1 - 2c) = 0.1·(-0.8) - 0.6·(-0.2); Σ(1 - 2c)²c(1 - c) = 0.64·0.09 + 0.04·0.24
    assert spiegelhalter_z(confidence, correct) == pytest.approx(0.04 / math.sqrt(0.0672))
    assert brier(confidence, correct) == pytest.approx((0.01 + 0.36) / 2)


def labelled(n: int, seed: int, overconfidence: float = 0.0) -> Labelled:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.4, 0.99, n)
    return Labelled(confidence, rng.random(n) < confidence - overconfidence)


def judged(rows: Labelled, name: str = "calibration", accuracy: float | None = None) -> Score:
    known = Reference(1, "1", {}, accuracy=accuracy, labelled=2000)
    return judge(catalogue()[name], FUSED, known, rows)


def test_calibrated_answers_are_ok_and_the_error_is_debiased() -> None:
    scores = [judged(labelled(1000, seed)) for seed in range(40)]
    assert {score.verdict for score in scores} == {Verdict.OK}
    assert np.mean([score.value for score in scores]) < 0.02
    assert np.mean([(score.p_value or 0) <= 0.05 for score in scores]) <= 0.15


def test_overconfidence_is_found_and_measured() -> None:
    score = judged(labelled(2000, 0, overconfidence=0.15))
    assert score.verdict is Verdict.DRIFT
    assert score.value == pytest.approx(0.15, abs=0.03)
    assert score.interval is not None
    assert score.interval[0] < 0.15 < score.interval[1]
    assert "overconfident" in score.explanation


def test_few_labels_decide_nothing() -> None:
    assert judged(labelled(200, 0, overconfidence=0.3)).verdict is Verdict.INSUFFICIENT


@pytest.mark.parametrize(
    ("accuracy", "verdict"), [(0.7, Verdict.OK), (0.98, Verdict.DRIFT), (None, Verdict.NO_BASELINE)]
)
def test_accuracy_is_held_against_the_baseline(accuracy: float | None, verdict: Verdict) -> None:
    score = judged(labelled(1000, 0), "accuracy", accuracy)
    assert score.verdict is verdict
    assert score.interval is not None
    assert score.interval[0] < 0.7 < score.interval[1]


@pytest.fixture(scope="module")
def made() -> Baseline:
    return baseline(1600, np.random.default_rng(21))


def verdicts(made: Baseline, seen: Evidence) -> dict[tuple[str, str], Score]:
    known = reference(made)
    return {
        (name, modality): judge(catalogue()[name], modality, known, seen.summaries[modality])
        for name, modality in [
            ("embedding_mmd", "image"),
            ("embedding_mmd", "text"),
            ("quality", "image"),
            ("quality", "text"),
            ("pairing", FUSED),
            ("class_drift", FUSED),
            ("agreement", FUSED),
        ]
    }


def drifted(found: dict[tuple[str, str], Score]) -> set[tuple[str, str]]:
    return {key for key, score in found.items() if score.verdict is Verdict.DRIFT}


def test_nothing_wrong_raises_nothing(made: Baseline) -> None:
    rng = np.random.default_rng(22)
    for _ in range(10):
        assert drifted(verdicts(made, evidence(made, answers(1000, rng), partitions=3))) == set()


def test_shifted_captions_break_the_pairing_and_no_marginal(made: Baseline) -> None:
    rows = answers(1000, np.random.default_rng(23), Fault(shifted=True))
    found = verdicts(made, evidence(made, rows))
    assert drifted(found) == {("pairing", FUSED)}
    assert (found["pairing", FUSED].value or 0) < -1
    assert "worse" in found["pairing", FUSED].explanation


def test_a_dark_noisy_camera_moves_the_image_and_is_named(made: Baseline) -> None:
    rows = answers(1000, np.random.default_rng(24), Fault(dark=True))
    found = verdicts(made, evidence(made, rows))
    assert {("embedding_mmd", "image"), ("quality", "image")} <= drifted(found)
    assert all(modality != "text" for _, modality in drifted(found))
    moved = found["embedding_mmd", "image"].details["moved"]
    assert [each["statistic"] for each in moved] == ["brightness", "noise"]
    assert moved[0]["effect"] < 0 < moved[1]["effect"]
    assert "brightness fell" in found["embedding_mmd", "image"].explanation


def test_another_mix_of_inputs_leaves_the_pairing_alone(made: Baseline) -> None:
    rng = np.random.default_rng(25)
    for _ in range(5):
        found = verdicts(made, evidence(made, answers(1000, rng, Fault(prior_shift=0.2))))
        assert found["pairing", FUSED].verdict is Verdict.OK


def test_false_alarms_at_a_tenth_with_and_without_sessions(made: Baseline) -> None:
    """150 drift-free windows, at α = 0.1 so that so few tell: 15 expected; 30 or more is below 1 in 10,000."""
    rng, known = np.random.default_rng(26), reference(made)
    for session in (1, 8):
        flagged = 0
        for _ in range(50):
            seen = evidence(made, answers(512, rng, Fault(session=session)))
            for modality in ("image", "text", FUSED):
                score = judge(catalogue()["embedding_mmd"], modality, known, seen.summaries[modality])
                flagged += (score.p_value or 0) <= 0.1
        assert flagged < 30

"""Shares from labels: oracles worked by hand, laws, and coverage where it is known how labels were chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from monitor.detectors._sampling import effective_rows, hajek, powered, sample
from monitor.domain.finding import Verdict
from monitor.domain.intervals import wilson
from monitor.domain.window import Labelled
from tests.support.labelled import FINE, answered, histogram, judged


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


@settings(max_examples=60)
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


def test_impossible_sampling_probabilities_are_refused() -> None:
    for wrong in (0.0, -0.5, 1.5):
        with pytest.raises(ValueError, match="sampling probabilities"):
            replace(answered(3, 0), sampling=np.array([0.5, wrong, np.nan]))
    with pytest.raises(ValueError, match="disagree about their number"):
        replace(answered(3, 0), source=np.array(["user"]))

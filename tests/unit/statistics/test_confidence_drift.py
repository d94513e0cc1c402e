"""Confidence drift against SciPy, by law and by story; how often it is wrong with nothing wrong, and what it finds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

from migrations.schema.bins import from_rows
from monitor.detectors import catalogue, judge
from monitor.detectors.base import Score
from monitor.detectors.confidence_drift import first_cells
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, Reference, Summary

DETECTOR = catalogue()["confidence_drift"]
FEW = DETECTOR.options(permutations=499)
Array = NDArray[np.float64]


def drawn(n: int, rng: np.random.Generator, session: int = 1, shift: float = 0.0, spread: float = 1.0) -> Array:
    """Confidences, most of them high; near-duplicates of a session follow one another and begin anywhere."""
    logits = 2 - shift + spread * rng.normal(size=n // session + 2)
    rows = np.repeat(logits, session) + (0.1 * rng.normal(size=len(logits) * session) if session > 1 else 0)
    start = int(rng.integers(session))
    confidence: Array = 1 / (1 + np.exp(-rows[start : start + n]))
    return confidence


def summary(confidence: Array) -> Summary:
    rows = np.eye(50)[np.minimum((50 * confidence).astype(int), 49)]
    return Summary(FUSED, {}, from_rows({"confidence": rows}, 8))


def judged(before: Array, after: Array, **options: float) -> Score:
    known = Reference(1, "1", {FUSED: summary(before)})
    return judge(DETECTOR, FUSED, known, summary(after), replace(FEW, **options))


@given(st.lists(st.integers(0, 40), min_size=2, max_size=50).filter(any), st.integers(1, 12))
def test_joined_cells_cover_every_fine_one_and_none_is_heavier_than_its_share(counts: list[int], cells: int) -> None:
    rows = np.array(counts, np.float64)
    starts = first_cells(rows, cells)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    joined = np.add.reduceat(rows, starts)
    assert joined.sum() == rows.sum()
    single = np.diff(np.append(starts, len(rows))) == 1
    # a joined cell ends with the fine cell in which its share is full
    assert (joined[~single] <= 2 * rows.sum() / cells + 1e-9).all()


def test_the_distance_is_that_of_scipy_with_half_a_row_more_in_each_cell() -> None:
    rng = np.random.default_rng(0)
    before, after = drawn(800, rng), drawn(500, rng, shift=0.5)
    score = judged(before, after)
    bounds = score.details["bounds"]
    p, q = (np.histogram(np.minimum(np.floor(50 * x), 49) / 50 + 0.01, bounds)[0] + 0.5 for x in (before, after))
    assert score.effect == pytest.approx(jensenshannon(p, q, base=2))
    assert score.details["psi"] == pytest.approx(stats.entropy(q, p) + stats.entropy(p, q))
    assert score.details["mean_window"] == pytest.approx(after.mean(), abs=0.01)


def test_evidence_agrees_with_a_permutation_test_of_scipy() -> None:
    """Rows one by one are bins of one row, and few enough bounds that SciPy's Cramér-von Mises sees the same."""
    rng = np.random.default_rng(5)
    pairs = []
    for shift in (0.0, 0.2, 0.4):
        before, after = drawn(480, rng), drawn(480, rng, shift=shift)
        expected = stats.cramervonmises_2samp(np.floor(50 * before), np.floor(50 * after)).pvalue
        pairs.append((judged(before, after, bins=60, permutations=1999).p_value, expected))
    for found, expected in pairs:
        assert found is not None
        assert math.sqrt(found) == pytest.approx(math.sqrt(expected), abs=0.2)


@given(st.integers(0, 10_000), st.permutations(range(13)))
def test_a_window_has_not_drifted_from_itself_in_whatever_order_its_bins_come(seed: int, order: list[int]) -> None:
    rows = drawn(13 * 8, np.random.default_rng(seed))
    mixed = rows.reshape(13, 8)[order].ravel()
    score = judged(rows, mixed)
    assert score.verdict is Verdict.OK
    assert score.effect == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 1000))
def test_the_effect_grows_with_the_share_of_rows_that_changed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, order = drawn(400, rng), rng.permutation(400)
    effects = []
    for share in (0, 100, 200, 400):
        after = before.copy()
        after[order[:share]] = 0.31
        effects.append(judged(before, after, permutations=9).effect or 0.0)
    assert effects == sorted(effects)


@pytest.mark.parametrize("session", [1, 8])
@pytest.mark.parametrize(("n", "m"), [(512, 512), (400, 2000)])
def test_false_alarms_at_a_twentieth_with_and_without_sessions(session: int, n: int, m: int) -> None:
    """200 drift-free windows: 10 expected; 24 or more have a chance of 1 in 10,000."""
    rng = np.random.default_rng(7)
    scores = [judged(drawn(m, rng, session), drawn(n, rng, session)) for _ in range(200)]
    assert sum((score.p_value or 0) <= 0.05 for score in scores) < 24


def test_as_the_service_is_set_few_sessions_are_no_drift() -> None:
    rng = np.random.default_rng(8)
    for _ in range(60):
        assert judged(drawn(1000, rng, 8), drawn(200, rng, 8), permutations=9999).verdict is Verdict.OK


@pytest.mark.parametrize("fault", [(1.0, 1.0), (-1.2, 1.0), (0.0, 3.0)])
def test_a_change_of_level_or_spread_is_found_each_time(fault: tuple[float, float]) -> None:
    rng = np.random.default_rng(9)
    for _ in range(20):
        score = judged(drawn(1000, rng), drawn(500, rng, 1, *fault), permutations=9999)
        assert score.verdict is Verdict.DRIFT


def test_the_words_say_which_way_and_what_it_is_not() -> None:
    rng = np.random.default_rng(10)
    before = drawn(1000, rng)
    less, more, spread = drawn(500, rng, shift=1.5), drawn(500, rng, shift=-2), np.where(np.arange(500) % 2, 0.71, 0.97)
    said = judged(before, less, permutations=9999).explanation
    assert said.startswith("Answers are less sure than in the baseline: mean confidence 0.84, now 0.60; ")
    assert said.endswith("; confidence says nothing of whether answers are right.")
    assert "Answers are more sure" in judged(before, more, permutations=9999).explanation
    assert "around the same mean of 0.84" in judged(before, spread, permutations=9999).explanation

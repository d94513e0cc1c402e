"""Misalignment: which modality runs late and by how much, near-duplicates that must not confuse it, and captures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from inference.neighbours import shifted
from migrations.schema.bins import FARTHEST, LAG_EDGES, Bins, from_rows
from migrations.schema.pairing_map import PairingMap
from monitor.detectors import catalogue, judge
from monitor.detectors.base import Score
from monitor.detectors.misalignment import shift_test
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, IncomparableError, Reference, Summary

DETECTOR = catalogue()["misalignment"]
Array = NDArray[np.float64]


def pairs(n: int, rng: np.random.Generator, session: int = 1, shared: float = 0.8) -> tuple[Array, Array]:
    """Features of N pairs that share part of what they show; near-duplicates of a session follow one another."""
    thing = rng.normal(size=(n // session + 2, 6)).repeat(session, axis=0)
    start = int(rng.integers(session))
    thing = thing[start : start + n] + (0.1 * rng.normal(size=(n, 6)) if session > 1 else 0)
    return thing, shared * thing + np.sqrt(1 - shared**2) * rng.normal(size=thing.shape)


PAIRING = PairingMap.fit(*pairs(2000, np.random.default_rng(0)))


def summary(left: Array, right: Array) -> Summary:
    scores, _ = shifted(PAIRING, left.astype(np.float32), right.astype(np.float32), None)
    return Summary(FUSED, {}, from_rows({"shift": scores}, 8))


def judged(window: Summary, known: Reference | None = None) -> Score:
    return judge(DETECTOR, FUSED, known, window)


def of_lags(seconds: Array, known: NDArray[np.bool_] | None = None) -> Summary:
    rows = np.eye(len(LAG_EDGES) + 1)[np.searchsorted(LAG_EDGES, seconds)]
    if known is not None:
        rows[~known] = 0
    return Summary(FUSED, {}, from_rows({"lag": rows}, 8))


def test_the_test_of_shifts_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    means = rng.normal(size=(12, 2 * FARTHEST + 1))
    means[:, FARTHEST + 2] += 2
    others = np.delete(np.arange(9), FARTHEST + 2)
    expected = max(
        stats.ttest_rel(means[:, FARTHEST + 2], means[:, other], alternative="greater").pvalue for other in others
    )
    shift, p_value = shift_test(means)
    assert shift == 2
    assert p_value == pytest.approx(8 * expected, rel=1e-4)


@pytest.mark.parametrize("late", [-4, -1, 1, 2, 4])
@pytest.mark.parametrize("session", [1, 8])
def test_who_runs_late_and_by_how_much_is_found_each_time(late: int, session: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        left, right = pairs(600, rng, session)
        score = judged(summary(left, np.roll(right, late, axis=0)))
        assert score.verdict is Verdict.DRIFT
        assert score.details["late"] == {"modality": "text" if late > 0 else "image", "requests": abs(late)}


@pytest.mark.parametrize("session", [1, 2, 8, 64])
def test_near_duplicates_whose_neighbours_fit_as_well_are_no_drift(session: int) -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        score = judged(summary(*pairs(512, rng, session)))
        assert score.verdict is Verdict.OK
        assert (score.p_value or 0) > 0.05


@pytest.mark.parametrize("session", [1, 8])
def test_pairs_that_belong_to_nobody_nearby_are_no_drift(session: int) -> None:
    """Mixed up beyond recognition, every shift fits as badly: which one leads is chance. 300 windows."""
    rng = np.random.default_rng(4)
    flagged = 0
    for _ in range(300):
        left, right = pairs(512, rng, session)
        score = judged(summary(left, right[rng.permutation(512)]))
        assert score.verdict is Verdict.OK
        flagged += (score.p_value or 0) <= 0.05
    assert flagged <= 15


def test_captions_that_contradict_their_own_pictures_are_not_late() -> None:
    """Own pairs then fit worse than any neighbour; no single shift fits better than the others."""
    rng = np.random.default_rng(5)
    left, right = pairs(800, rng)
    score = judged(summary(left, -right))
    assert (score.value or 0) > DETECTOR.options().lead
    assert score.verdict is Verdict.OK


@given(st.integers(0, 1000), st.floats(0.1, 100), st.floats(-100, 100))
def test_scaling_and_moving_all_scores_keeps_the_evidence(seed: int, scale: float, offset: float) -> None:
    means = np.random.default_rng(seed).normal(size=(10, 2 * FARTHEST + 1))
    one, other = shift_test(means), shift_test(scale * means + offset)
    assert one[0] == other[0]
    assert one[1] == pytest.approx(other[1], rel=1e-3, abs=1e-9)


def test_the_words_name_the_modalities_of_the_baselines_pair() -> None:
    left, right = pairs(600, np.random.default_rng(6))
    late = summary(left, np.roll(right, 2, axis=0))
    assert judged(late).explanation.startswith(
        "The text runs late by 2 requests: it fits the image of 2 requests before better than its own, by "
    )
    known = Reference.from_facts(1, "1", {"pair": ["audio", "video"]}, [])
    assert judged(late, known).details["late"] == {"modality": "video", "requests": 2}
    assert judged(summary(left, right)).explanation == (
        "No shift of image against text by up to 4 requests fits clearly better than none."
    )


def test_few_pairs_and_a_column_of_other_width() -> None:
    few = judged(summary(*pairs(60, np.random.default_rng(7))))
    assert (few.verdict, few.n_current) == (Verdict.INSUFFICIENT, 60 - FARTHEST)
    with pytest.raises(IncomparableError, match="'shift' has 4 values, expected 10"):
        judged(Summary(FUSED, {}, from_rows({"shift": np.ones((200, 4))}, 8)))
    broken = summary(*pairs(200, np.random.default_rng(8)))
    broken.bins.columns["shift"][3] = np.nan
    with pytest.raises(IncomparableError, match="NaN"):
        judged(broken)


def usual(rng: np.random.Generator, n: int, session: int = 1) -> Array:
    """Images captured about 0.3 s before their texts."""
    seconds = rng.normal(-0.3, 0.3, n // session + 2).repeat(session)
    start = int(rng.integers(session))
    lags: Array = seconds[start : start + n]
    return lags


def test_captures_that_drift_apart_are_told_against_the_baseline() -> None:
    rng = np.random.default_rng(9)
    known = Reference(1, "1", {FUSED: of_lags(usual(rng, 1000))})
    calm, apart = judged(of_lags(usual(rng, 400)), known), judged(of_lags(usual(rng, 400) - 4), known)
    assert calm.verdict is Verdict.OK
    assert calm.explanation.startswith("Captures are mostly 0.1 to 0.5 s apart, text after image, about as in the base")
    assert apart.verdict is Verdict.DRIFT
    assert apart.explanation.startswith(
        "Captures are mostly 2 to 10 s apart, text after image, in the baseline mostly 0.1 to 0.5 s apart, text after"
    )
    assert apart.effect == pytest.approx(apart.details["lag"]["distance"])
    assert apart.details["lag"]["median"] == "mostly 2 to 10 s apart, text after image"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "within 0.1 s of each other"),
        (99.0, "mostly more than 60 s apart, image after text"),
        (-99.0, "mostly more than 60 s apart, text after image"),
        (0.5, "mostly 0.1 to 0.5 s apart, image after text"),
    ],
)
def test_the_median_lag_in_words(seconds: float, words: str) -> None:
    score = judged(of_lags(np.full(200, seconds)))
    assert score.details["lag"]["median"] == words
    assert score.verdict is Verdict.NO_BASELINE


@pytest.mark.parametrize("session", [1, 8])
def test_false_alarms_of_lags_at_a_twentieth(session: int) -> None:
    """200 drift-free windows: 10 expected; 24 or more have a chance of 1 in 10,000. Half of the captures are known."""
    rng = np.random.default_rng(10)
    flagged = 0
    for _ in range(200):
        known = Reference(1, "1", {FUSED: of_lags(usual(rng, 1500, session))})
        window = of_lags(usual(rng, 400, session), rng.random(400) < 0.5)
        options = DETECTOR.options(permutations=499)
        flagged += (judge(DETECTOR, FUSED, known, window, options).p_value or 0) <= 0.05
    assert flagged < 24


def test_a_shift_and_captures_together_say_both_and_few_captures_do_not_silence_the_shift() -> None:
    rng = np.random.default_rng(11)
    left, right = pairs(600, rng)
    late = summary(left, np.roll(right, 1, axis=0))
    lags = of_lags(usual(rng, 600))
    both = replace(late, bins=Bins(late.bins.count, {**late.bins.columns, **lags.bins.columns}))
    known = Reference(1, "1", {FUSED: of_lags(usual(rng, 40))})
    score = judged(both, known)
    assert score.verdict is Verdict.DRIFT
    assert score.explanation.startswith("The text runs late by 1 request: ")
    assert "600 captures against 40 are too few" in score.explanation
    assert set(score.details) == {"pair", "late", "scores", "lag"}

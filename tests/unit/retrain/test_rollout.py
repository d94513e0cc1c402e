"""A challenger's checks: what shadow may say however often one looks, what a canary says, and the steps that follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.betting import above, below, log_capital
from monitor.domain.rollout import (
    CANARY,
    PROMOTED,
    ROLLED_BACK,
    SHADOW,
    Answered,
    Limits,
    Outcome,
    Place,
    Plan,
    Shadowed,
    check_canary,
    check_shadow,
    overall,
)

PASSED, FAILED, INCONCLUSIVE = Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE
BOTH = Plan(stages=(SHADOW, CANARY), passes=2, failures=5)


@pytest.mark.parametrize("mean", [0.02, 0.3, 0.5, 0.9])
def test_looking_after_every_observation_keeps_the_promised_error(mean: float) -> None:
    """400 series of 1000 looks each at the border of what is claimed: 5% may be taken in; chance adds three sd."""
    rng = np.random.default_rng(int(mean * 100))
    wrong = sum(above((rng.random(1000) < mean).astype(float), mean, 0.05) for _ in range(400))
    assert wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_the_error_holds_where_the_past_decides_what_comes_next() -> None:
    """Values that fall as soon as they have risen: dependent, with a mean of one half given the past."""
    rng = np.random.default_rng(1)
    wrong = 0
    for signs in rng.choice([-1.0, 1.0], (300, 200)):
        rose = np.concatenate([[False], signs[:-1] > 0])
        wrong += above(0.5 + np.where(rose, 0.1, 0.5) * signs, 0.5, 0.05)
    assert wrong / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_a_fair_bet_gains_nothing_on_average(past: list[float], mean: float) -> None:
    """Whatever the past: a next value of 1 with probability `mean`, else 0, leaves the capital as it is on average."""
    gained = [np.exp(log_capital(np.array([*past, value]), mean)[-1]) for value in (1.0, 0.0)]
    before = np.exp(log_capital(np.array(past), mean)[-1])
    assert mean * gained[0] + (1 - mean) * gained[1] == pytest.approx(before)


def test_what_is_clear_is_found_soon_and_values_outside_are_refused() -> None:
    rng = np.random.default_rng(2)
    assert all(above((rng.random(300) < 0.45).astype(float), 0.3, 0.01) for _ in range(20))
    assert all(below((rng.random(300) < 0.15).astype(float), 0.3, 0.01) for _ in range(20))
    with pytest.raises(ValueError, match="between 0 and 1"):
        above(np.array([2.0]), 0.5, 0.05)
    with pytest.raises(ValueError, match="mean of 1"):
        above(np.array([1.0]), 1.0, 0.05)


def shadow(n: int = 2000, *, seed: int = 0, **shares: float) -> Shadowed:
    """N requests: shares that fail, differ, are slower, and of labelled ones got better or worse."""
    rng = np.random.default_rng(seed)
    champion = rng.integers(0, 3, n)
    differs = rng.random(n) < shares.get("differs", 0.05)
    into = champion * 0 if shares.get("one_class") else (champion + rng.integers(1, 3, n)) % 3
    drawn = rng.random(n)
    better, worse = shares.get("better", 0.1), shares.get("worse", 0.05)
    return Shadowed(
        failed=(rng.random(n) < shares.get("failed", 0.0)).astype(float),
        differs=differs.astype(float),
        slower=(rng.random(n) < shares.get("slower", 0.05)).astype(float),
        champion=champion,
        challenger=np.where(differs, into, champion),
        gained=np.where(drawn < better, 1.0, np.where(drawn < better + worse, -1.0, 0.0)),
    )


def outcomes(reasons: Any) -> dict[str, Outcome]:
    return {reason.name: reason.outcome for reason in reasons}


def test_a_good_challenger_passes_shadow_once_there_is_enough_of_it() -> None:
    assert overall(check_shadow(shadow(), Limits())) is PASSED
    few = check_shadow(shadow(20), Limits())
    assert overall(few) is INCONCLUSIVE
    assert "accuracy" not in outcomes(few), "20 labels are too few"
    waiting = replace(shadow(), gained=np.zeros(0))
    assert overall(check_shadow(waiting, Limits())) is PASSED
    assert overall(check_shadow(waiting, Limits(labels_needed=True))) is INCONCLUSIVE


@pytest.mark.parametrize(
    ("shares", "stopped_by"),
    [
        ({"failed": 0.05}, "errors"),
        ({"differs": 0.5}, "disagreement"),
        ({"slower": 0.9}, "latency"),
        ({"better": 0.02, "worse": 0.1}, "accuracy"),
    ],
)
def test_each_fault_alone_stops_a_challenger_in_shadow(shares: dict[str, Any], stopped_by: str) -> None:
    found = outcomes(check_shadow(shadow(**shares), Limits()))
    assert {name for name, outcome in found.items() if outcome is FAILED} == {stopped_by}


def test_answers_that_all_move_to_one_class_are_drift() -> None:
    found = outcomes(check_shadow(shadow(differs=0.6, one_class=1), Limits(max_disagreement=0.25)))
    assert found["drift"] is FAILED
    assert outcomes(check_shadow(shadow(differs=0.2), Limits(max_disagreement=0.25)))["drift"] is PASSED


def test_one_as_good_is_rarely_stopped_however_often_one_looks() -> None:
    """Errors, disagreement, latency and accuracy all at the border; each check looks at all that there is so far."""
    border = {"failed": 0.02, "differs": 0.3, "slower": 0.5, "better": 0.1, "worse": 0.1}
    limits = Limits(max_errors=0.02)
    stopped = 0
    for seed in range(40):
        whole = shadow(600, seed=seed, **border)
        looks = range(100, 601, 100)
        parts = (Shadowed(*(getattr(whole, name)[:n] for name in Shadowed.__slots__)) for n in looks)
        stopped += any(overall(check_shadow(part, limits)) is FAILED for part in parts)
    assert stopped / 40 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)


WELL = Answered(rows=1000, errors=2, p95_ms=20, agreed=(850, 1000), right=(900, 1000))


@pytest.mark.parametrize(
    ("change", "stopped_by"),
    [
        ({"errors": 60}, "errors"),
        ({"p95_ms": 31.0}, "latency"),
        ({"agreed": (400, 1000)}, "disagreement of heads"),
        ({"right": (800, 1000)}, "wrong answers"),
    ],
)
def test_each_fault_alone_fails_a_canarys_check(change: dict[str, Any], stopped_by: str) -> None:
    assert overall(check_canary(WELL, WELL, (), Limits())) is PASSED
    found = outcomes(check_canary(WELL, replace(WELL, **change), (), Limits()))
    assert {name for name, outcome in found.items() if outcome is FAILED} == {stopped_by}


def test_a_canary_with_few_answers_is_left_open_and_what_workers_say_is_not() -> None:
    few = replace(WELL, rows=100)
    assert overall(check_canary(WELL, few, (), Limits())) is INCONCLUSIVE
    assert overall(check_canary(WELL, few, ["worker w1 failed it: silent"], Limits())) is FAILED
    unlabelled = replace(WELL, right=(0, 3))
    assert "wrong answers" not in outcomes(check_canary(WELL, unlabelled, (), Limits()))


def walk(plan: Plan, outcomes: list[Outcome]) -> Place | str | None:
    place: Place | str | None = plan.first()
    for outcome in outcomes:
        assert isinstance(place, Place)
        place = plan.follow(place, outcome)
    return place


def test_the_stages_follow_one_another_to_the_champion() -> None:
    assert Plan().first() is None
    assert BOTH.first() == Place(SHADOW, 10)
    assert walk(BOTH, [PASSED]) == Place(CANARY, 10)
    assert walk(BOTH, [PASSED] + [PASSED] * 2) == Place(CANARY, 50)
    assert walk(BOTH, [PASSED] + [PASSED] * 6) == PROMOTED
    assert walk(Plan(stages=(SHADOW,)), [PASSED]) == PROMOTED
    assert walk(BOTH, [FAILED]) == ROLLED_BACK


def test_five_failed_checks_in_a_row_end_a_canary_and_inconclusive_ones_hold() -> None:
    canary = Plan(stages=(CANARY,), passes=2)
    assert walk(canary, [FAILED] * 4) == Place(CANARY, 10, failed=4)
    assert walk(canary, [FAILED] * 4 + [INCONCLUSIVE] * 9) == Place(CANARY, 10, failed=4)
    assert walk(canary, [FAILED] * 4 + [INCONCLUSIVE, FAILED]) == ROLLED_BACK
    assert walk(canary, [FAILED] * 4 + [PASSED] + [FAILED] * 4) == Place(CANARY, 10, failed=4)
    assert walk(canary, [PASSED] * 2 + [FAILED]) == Place(CANARY, 50, failed=1)

"""A job's states, and when what it trained may answer."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.gate import GateLimits, ResultError, judge, parse_result
from monitor.domain.job import ACTIVE, Decision, JobState, may_become

GATE = GateLimits(min_rows=100, alpha=0.05, max_ece=0.05, max_pattern_drop=0.1, min_pattern_rows=30)
RESULT: dict[str, Any] = {
    "candidate": {
        "version": "v2",
        "accuracy": 0.9,
        "ece": 0.03,
        "n": 200,
        "by_pattern": {"fused": {"accuracy": 0.9, "n": 150}, "text": {"accuracy": 0.45, "n": 50}},
    },
    "champion": {
        "version": "v1",
        "accuracy": 0.6,
        "ece": 0.3,
        "n": 200,
        "by_pattern": {"fused": {"accuracy": 0.6, "n": 150}, "text": {"accuracy": 0.47, "n": 50}},
    },
    "paired": {"only_champion_right": 5, "only_candidate_right": 65},
}


def unmet(decision: Decision) -> set[str]:
    return {condition.name for condition in decision.conditions if not condition.met}


@given(st.lists(st.sampled_from(list(JobState)), min_size=2, max_size=8))
def test_a_finished_job_never_moves(path: list[JobState]) -> None:
    for before, after in itertools.pairwise(path):
        if before not in ACTIVE:
            assert not may_become(before, after)


def test_only_the_gate_promotes() -> None:
    assert [state for state in JobState if may_become(state, JobState.PROMOTED)] == [JobState.TRAINED]


def changed(**figures: Any) -> dict[str, Any]:
    """RESULT with `candidate__accuracy=...` and the like replaced."""
    result = copy.deepcopy(RESULT)
    for path, value in figures.items():
        *parents, last = path.split("__")
        place = result
        for name in parents:
            place = place[name]
        place[last] = value
    return result


def test_a_better_candidate_passes() -> None:
    assert unmet(judge(parse_result(RESULT), GATE)) == set()


@pytest.mark.parametrize(
    ("figures", "stopped_by"),
    [
        ({"candidate__n": 50, "champion__n": 50}, "held_out_rows"),
        ({"paired__only_champion_right": 30, "paired__only_candidate_right": 10}, "accuracy"),
        ({"candidate__ece": 0.2, "champion__ece": 0.1}, "calibration"),
        ({"candidate__by_pattern__text": {"accuracy": 0.33, "n": 50}}, "presence_patterns"),
        ({"candidate__by_pattern": {"fused": {"accuracy": 0.9, "n": 150}}}, "presence_patterns"),
    ],
)
def test_each_fault_alone_stops_a_candidate(figures: dict[str, Any], stopped_by: str) -> None:
    decision = judge(parse_result(changed(**figures)), GATE)
    assert not decision.retrain
    assert unmet(decision) == {stopped_by}


def test_noise_does_not_stop_a_candidate_that_is_as_good() -> None:
    assert judge(parse_result(changed(paired__only_champion_right=11, paired__only_candidate_right=10)), GATE).retrain
    assert judge(parse_result(changed(paired__only_champion_right=0, paired__only_candidate_right=0)), GATE).retrain


def test_ece_above_the_limit_passes_where_the_champion_is_worse() -> None:
    assert judge(parse_result(changed(candidate__ece=0.08)), GATE).retrain


def test_a_pattern_with_few_rows_is_not_judged() -> None:
    few = changed(
        candidate__by_pattern__text={"accuracy": 0.1, "n": 10}, champion__by_pattern__text={"accuracy": 0.5, "n": 10}
    )
    assert judge(parse_result(few), GATE).retrain


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        {**RESULT, "paired": {}},
        {**RESULT, "candidate": None},
        changed(candidate__accuracy=float("nan")),
        changed(candidate__ece=1.5),
        changed(candidate__n=199),
        changed(paired__only_champion_right=-1),
        changed(candidate__by_pattern={"text": 0.5}),
    ],
)
def test_a_result_that_cannot_be_judged_is_refused(raw: Any) -> None:
    with pytest.raises(ResultError):
        parse_result(raw)

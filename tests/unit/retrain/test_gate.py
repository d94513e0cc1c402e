"""A job's states, and when what it trained may answer: each check alone, too little data, intervals."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from monitor.domain.gate import GateLimits, Outcome, Verdict, judge
from monitor.domain.gate_result import ResultError, parse_result
from monitor.domain.job import ACTIVE, JobState, may_become
from monitor.domain.paired import Paired, difference_interval, p_second_worse
from tests.support.gated import RESULT, as_good, changed

LIMITS = GateLimits(min_rows=100, alpha=0.05, max_drop=0.05, max_ece=0.05, max_slice_drop=0.1, min_slice_rows=30)


@given(st.lists(st.sampled_from(list(JobState)), min_size=2, max_size=8))
def test_a_finished_job_never_moves(path: list[JobState]) -> None:
    for before, after in itertools.pairwise(path):
        if before not in ACTIVE:
            assert not may_become(before, after)


def test_only_the_gate_promotes() -> None:
    assert [state for state in JobState if may_become(state, JobState.PROMOTED)] == [JobState.TRAINED]


def not_passed(verdict: Verdict) -> dict[str, str]:
    return {check.name: str(check.outcome) for check in verdict.checks if check.outcome is not Outcome.PASSED}


def judged(result: dict[str, Any], **limits: Any) -> Verdict:
    fields = {name: getattr(LIMITS, name) for name in GateLimits.__slots__}
    return judge(parse_result(result), GateLimits(**{**fields, **limits}))


def test_a_better_candidate_passes_and_the_table_shows_both() -> None:
    verdict = judged(RESULT)
    assert not_passed(verdict) == {}
    assert verdict.outcome is Outcome.PASSED
    rows = {row.figure: row for row in verdict.table}
    assert (rows["accuracy"].champion, rows["accuracy"].candidate) == (0.6, 0.9)
    assert rows["accuracy"].low is not None
    assert 0.2 < rows["accuracy"].low < 0.3 < (rows["accuracy"].high or 0) < 0.4
    assert {"ece", "accuracy, class a", "accuracy, pattern text", "reliance on image", "latency in ms"} <= rows.keys()


@pytest.mark.parametrize(
    ("figures", "stopped_by", "outcome"),
    [
        ({"candidate__ece": 0.2, "champion__ece": 0.1}, "calibration", "failed"),
        ({"candidate__latency_ms": 31.0}, "latency", "failed"),
        ({"candidate__latency_ms": None}, "latency", "insufficient"),
        ({"candidate__reliance": {"image": 0.5, "text": 0.001}}, "reliance", "failed"),
        ({"candidate__reliance": {}}, "reliance", "insufficient"),
        (
            {
                "champion__by_pattern__text": {"accuracy": 0.6, "n": 200},
                "candidate__by_pattern__text": {"accuracy": 0.45, "n": 200},
                "paired__pattern__text": {"only_champion_right": 38, "only_candidate_right": 8},
            },
            "presence_patterns",
            "failed",
        ),
        ({"candidate__by_pattern": {"fused": {"accuracy": 0.9, "n": 200}}}, "presence_patterns", "insufficient"),
        ({"candidate__by_class": {}, "champion__by_class": {}, "paired__class": {}}, "classes", "insufficient"),
    ],
)
def test_each_fault_alone_stops_a_candidate(figures: dict[str, Any], stopped_by: str, outcome: str) -> None:
    verdict = judged(changed(**figures))
    assert not_passed(verdict) == {stopped_by: outcome}
    assert str(verdict.outcome) == outcome


def test_a_class_that_got_worse_is_not_outweighed_by_the_others() -> None:
    figures: dict[str, Any] = {
        "champion__by_class__a": {"accuracy": 0.9, "n": 100},
        "champion__by_class__b": {"accuracy": 0.3, "n": 100},
        "candidate__by_class__a": {"accuracy": 0.85, "n": 100},
        "candidate__by_class__b": {"accuracy": 0.95, "n": 100},
        "paired__class": {
            "a": {"only_champion_right": 5, "only_candidate_right": 0},
            "b": {"only_champion_right": 0, "only_candidate_right": 65},
        },
    }
    assert not_passed(judged(changed(**figures))) == {}, "5 of 5 rows are not beyond chance, and within the limit"
    figures["paired__class"]["a"] = {"only_champion_right": 6, "only_candidate_right": 1}
    assert not_passed(judged(changed(**figures), max_slice_drop=0.04)) == {"classes": "failed"}
    figures["candidate__by_class__a"] = {"accuracy": 0.82, "n": 100}
    figures["paired__class"]["a"] = {"only_champion_right": 8, "only_candidate_right": 0}
    assert not_passed(judged(changed(**figures))) == {}, "8 of 8 rows are, but not surely beyond the limit"
    assert not_passed(judged(changed(**figures), max_drop=0.02)) == {"classes": "failed"}


def of_36(only_champion: int, only_candidate: int, champion: int = 33) -> dict[str, Any]:
    """RESULT where class a has 36 rows: those the champion got right, and those that only one of them did."""
    return changed(
        champion__by_class__a={"accuracy": champion / 36, "n": 36},
        candidate__by_class__a={"accuracy": (champion - only_champion + only_candidate) / 36, "n": 36},
        paired__class__a={"only_champion_right": only_champion, "only_candidate_right": only_candidate},
    )


def test_a_fall_that_chance_explains_is_told_and_stops_nobody() -> None:
    verdict = judged(of_36(6, 2))
    assert not_passed(verdict) == {}
    told = {check.name: check.text for check in verdict.checks}["classes"]
    assert told == "none is shown to have lost more than 0.100: a, b; not beyond chance: a: 0.917 to 0.806 of 36 rows"
    assert not_passed(judged(of_36(6, 0))) == {"classes": "failed"}, "the same rows lost, and none won"
    unpaired = of_36(6, 2)
    del unpaired["paired"]["class"]["a"]
    assert not_passed(judged(unpaired)) == {"classes": "failed"}, "of rows that were not paired the figure is all"


def test_one_as_good_in_a_small_class_is_stopped_as_rarely_as_the_level_says() -> None:
    """Over every table of 36 rows, weighted by its exact probability; by figures alone it would be 9%."""
    n, only = 36, 0.1
    tables = [(a, b, c) for a in range(n + 1) for b in range(n + 1 - a) for c in range(n + 1 - a - b)]
    weighed = [
        (each, multinomial.pmf([*each, n - sum(each)], n, [0.75, only, only, 1 - 0.75 - 2 * only])) for each in tables
    ]
    likely = [(each, weight) for each, weight in weighed if weight > 1e-5]
    fell = [(first, second, both, weight) for (both, first, second), weight in likely if first - second > 0.1 * n]
    stopped = sum(
        weight
        for first, second, both, weight in fell
        if not_passed(judged(of_36(first, second, champion=both + first)))
    )
    assert 0 < stopped < LIMITS.alpha < sum(weight for *_, weight in fell)


def test_a_modality_that_tells_the_champion_nothing_cannot_be_lost() -> None:
    def lost(champion: float) -> Verdict:
        """By a champion right on so many of 200 rows, 100 of each class, to a candidate right on 80 of them."""
        only_candidate = 36 - round(200 * (champion - 0.52))
        figures: dict[str, Any] = {
            "champion__by_pattern__text": {"accuracy": champion, "n": 200},
            "candidate__by_pattern__text": {"accuracy": 0.4, "n": 200},
            "paired__pattern__text": {"only_champion_right": 60, "only_candidate_right": only_candidate},
        }
        return judged(changed(**figures))

    verdict = lost(0.52)
    assert not_passed(verdict) == {}
    told = {check.name: check.text for check in verdict.checks}["presence_patterns"]
    assert told.endswith("; of no use to the champion: text: 0.520")
    assert not_passed(lost(0.55)) == {}, "110 of 200 are not shown to be more than one answer for all gets right"
    assert not_passed(lost(0.56)) == {"presence_patterns": "failed"}


def test_what_a_modality_tells_is_not_known_of_an_older_trainer() -> None:
    figures: dict[str, Any] = {
        "champion__by_class": {},
        "candidate__by_class": {},
        "paired__class": {},
        "candidate__by_pattern__text": {"accuracy": 0.34, "n": 200},
        "paired__pattern__text": {"only_champion_right": 36, "only_candidate_right": 10},
    }
    assert not_passed(judged(changed(**figures)))["presence_patterns"] == "failed"


def test_few_rows_are_never_a_pass() -> None:
    assert not_passed(judged(RESULT, min_rows=201)) == {"held_out_rows": "insufficient"}
    assert not_passed(judged(RESULT, min_slice_rows=101)) == {"classes": "insufficient"}
    assert not_passed(judged(RESULT, required=("recent", "test"))) == {"test_set": "insufficient"}


def test_one_as_good_passes_where_the_interval_rules_out_the_drop_and_is_else_left_open() -> None:
    assert not_passed(judged(as_good(4, 4))) == {}
    assert not_passed(judged(as_good(4, 4), max_drop=0.01)) == {"accuracy": "insufficient"}
    assert not_passed(judged(as_good(18, 10))) == {"accuracy": "insufficient"}
    assert not_passed(judged(as_good(18, 6)))["accuracy"] == "failed"


def test_the_frozen_test_set_is_judged_wherever_it_was_measured() -> None:
    worse = as_good(18, 6)
    verdict = judged({**RESULT, "test": worse})
    assert not_passed(verdict)["test_accuracy"] == "failed"
    assert {row.set for row in verdict.table} == {"recent", "test"}


def test_ece_above_the_limit_passes_where_the_champion_is_worse() -> None:
    assert not_passed(judged(changed(candidate__ece=0.08))) == {}


def test_a_modality_that_the_champion_ignores_too_is_no_fault() -> None:
    ignored = {"image": 0.4, "text": 0.0}
    assert not_passed(judged(changed(candidate__reliance=ignored, champion__reliance=ignored))) == {}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        {**RESULT, "paired": {}},
        {**RESULT, "candidate": None},
        {**RESULT, "test": {}},
        {**RESULT, "test": changed(candidate__version="v3")},
        changed(candidate__accuracy=float("nan")),
        changed(candidate__ece=1.5),
        changed(candidate__n=199),
        changed(candidate__n=-1, champion__n=-1),
        changed(candidate__latency_ms=0),
        changed(candidate__reliance={"image": 2}),
        changed(paired__only_champion_right=-1),
        changed(paired__only_candidate_right=66),
        changed(paired__class__a={"only_champion_right": 90, "only_candidate_right": 0}),
        changed(candidate__by_pattern={"text": 0.5}),
    ],
)
def test_a_result_that_cannot_be_judged_is_refused(raw: Any) -> None:
    with pytest.raises(ResultError):
        parse_result(raw)


counts = st.tuples(*[st.integers(0, 60)] * 4).filter(lambda each: sum(each) > 0)


@given(counts)
def test_the_interval_holds_its_difference_and_turns_with_the_models(drawn: tuple[int, int, int, int]) -> None:
    both, first, second, neither = drawn
    n = sum(drawn)
    rows, turned = Paired(n, both, first, second), Paired(n, both, second, first)
    low, high = difference_interval(rows, 1.645)
    assert -1 <= low <= rows.difference <= high <= 1
    assert difference_interval(turned, 1.645) == pytest.approx((-high, -low))
    assert p_second_worse(rows) + p_second_worse(turned) >= 1 - 1e-9
    assert difference_interval(Paired(n, neither, first, second), 1.645) == pytest.approx((low, high)), (
        "and with 'right'"
    )


@pytest.mark.parametrize("shares", [(0.8, 0.05, 0.1), (0.55, 0.2, 0.2), (0.9, 0.06, 0.02)])
def test_the_interval_covers_the_truth_as_often_as_it_says(shares: tuple[float, float, float]) -> None:
    """Over every table of 40 rows, weighted by its exact probability: at least 95% on either side, by about 1%."""
    n, (both, first, second) = 40, shares
    tables = np.array([(a, b, c) for a in range(n + 1) for b in range(n + 1 - a) for c in range(n + 1 - a - b)])
    full = np.column_stack([tables, n - tables.sum(1)])
    weights = multinomial.pmf(full, n, [both, first, second, 1 - sum(shares)])
    likely = weights > 1e-6
    ends = np.array([difference_interval(Paired(n, *map(int, table)), 1.645) for table in tables[likely]])
    truth = second - first
    for missed in (ends[:, 0] > truth, ends[:, 1] < truth):
        assert weights[likely][missed].sum() < 0.065
    wide = (ends[:, 1] - ends[:, 0]) @ weights[likely]
    normal = 2 * 1.645 * np.sqrt((first + second - truth**2) / n)
    assert wide < 1.4 * normal

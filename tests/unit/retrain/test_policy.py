"""When a retrain is started: every condition alone stops it, and says why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from monitor.alerts.names import GRADUAL
from monitor.detectors.base import catalogue
from monitor.domain.finding import Finding, Verdict
from monitor.domain.job import Decision
from monitor.domain.policy import (
    DRIFTS,
    ESTIMATE,
    Approval,
    PolicyLimits,
    Situation,
    asked_for,
    decide,
    labels_short,
    sustained,
)
from monitor.domain.window import Window

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LIMITS = PolicyLimits(min_labels=100, min_labels_per_class=20, cooldown=timedelta(hours=24))


def finding(number: int, detector: str = "embedding_mmd", verdict: Verdict = Verdict.DRIFT, **changes: Any) -> Finding:
    window = Window(NOW + timedelta(minutes=number - 60), NOW + timedelta(minutes=number))
    known: dict[str, Any] = {
        "detector": detector,
        "modality": "fused" if detector == ESTIMATE else "image",
        "window": window,
        "verdict": verdict,
        "value": 0.2,
        "p_value": 1e-6,
        "effect": 0.2,
        "interval": None,
        "threshold": None,
        "n_reference": 1000,
        "n_current": 1000,
        "baseline_id": 1,
        "model_version": "v1",
        "explanation": "",
    }
    return Finding(**{**known, **changes})


def windows(**changes: Any) -> tuple[tuple[Finding, ...], ...]:
    return tuple((finding(number, **changes),) for number in range(3))


READY = Situation(
    now=NOW,
    windows=windows(),
    quality_alerts=("AccuracyDrop",),
    new_labels={"a": 60, "b": 40},
    last_job_at=NOW - timedelta(days=2),
    active_job=None,
    compute_used=timedelta(hours=9),
)
ESTIMATED = tuple((finding(n), finding(n, ESTIMATE, Verdict.OK, effect=0.06 + n / 100)) for n in range(3))
APPROVAL = Approval(1, "kim", "new camera", NOW + timedelta(days=1))


def unmet(decision: Decision) -> set[str]:
    return {condition.name for condition in decision.conditions if not condition.met}


def told(decision: Decision, name: str) -> str:
    return next(condition.text for condition in decision.conditions if condition.name == name)


def test_lasting_drift_with_a_drop_and_enough_new_labels_is_retrained() -> None:
    decision = decide(READY, LIMITS)
    assert decision.retrain
    assert unmet(decision) == set()


@pytest.mark.parametrize(
    ("change", "missing", "words"),
    [
        ({"windows": windows()[:2]}, "drift", "in each of the last 3 windows"),
        ({"quality_alerts": ()}, "quality_drop", "no drop"),
        ({"new_labels": {"a": 30, "b": 30}}, "labels_total", "60 new labels, 100 needed"),
        ({"new_labels": {"a": 95, "b": 5}}, "labels_per_class", "b: 5"),
        ({"new_labels": {"a": 100, "b": 100, "c": 0}}, "labels_per_class", "c: 0"),
        ({"last_job_at": NOW - timedelta(hours=23)}, "cooldown", "is not over"),
        ({"active_job": 7}, "no_active_job", "job 7 is active"),
        ({"compute_used": timedelta(hours=10)}, "budget", "600 of 600 minutes"),
        ({"trained_here": False}, "trained_here", "served elsewhere"),
    ],
)
def test_each_condition_alone_stops_a_retrain_and_says_so(change: dict[str, Any], missing: str, words: str) -> None:
    decision = decide(replace(READY, **change), LIMITS)
    assert not decision.retrain
    assert unmet(decision) == {missing}
    assert words in told(decision, missing)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"windows": ESTIMATED}, "estimated 6.0% below the baseline"),
        ({"approval": APPROVAL}, "kim approved it until 2026-03-02T00:00:00+00:00: new camera"),
    ],
)
def test_an_estimated_drop_or_a_persons_approval_stands_for_a_drop_by_labels(
    change: dict[str, Any], words: str
) -> None:
    decision = decide(replace(READY, quality_alerts=(), **change), LIMITS)
    assert decision.retrain
    assert words in told(decision, "quality_drop")


@pytest.mark.parametrize(
    "wrong", [{"effect": 0.04}, {"p_value": 0.02}, {"verdict": Verdict.INSUFFICIENT}, {"detector": "accuracy"}]
)
def test_one_window_whose_estimate_shows_no_drop_is_enough_to_wait(wrong: dict[str, Any]) -> None:
    last = (ESTIMATED[2][0], replace(ESTIMATED[2][1], **wrong))
    decision = decide(replace(READY, quality_alerts=(), windows=(*ESTIMATED[:2], last)), LIMITS)
    assert unmet(decision) == {"quality_drop"}


def test_a_changed_concept_shows_in_labels_alone_and_lasts_as_drift_does() -> None:
    assert decide(replace(READY, windows=windows(detector="accuracy")), LIMITS).retrain


@pytest.mark.parametrize(
    "change",
    [
        {"detector": "availability"},
        {"detector": "burn_rate"},
        {"verdict": Verdict.INSUFFICIENT},
        {"details": {"impact": "note"}},
    ],
)
def test_faults_of_the_pipeline_and_harmless_drift_are_no_reason(change: dict[str, Any]) -> None:
    assert unmet(decide(replace(READY, windows=windows(**change)), LIMITS)) == {"drift"}


def test_the_detectors_whose_drift_counts_exist() -> None:
    assert {*DRIFTS, ESTIMATE} <= {*catalogue(), GRADUAL}


@given(
    st.lists(st.sets(st.tuples(st.sampled_from(sorted(DRIFTS)), st.sampled_from(("image", "text")))), max_size=6),
    st.integers(1, 5),
)
@hypothesis_settings(max_examples=40)
def test_drift_lasts_exactly_where_each_of_the_last_windows_has_it(
    drifting: list[set[tuple[str, str]]], needed: int
) -> None:
    given = [[finding(n, name, modality=modality) for name, modality in one] for n, one in enumerate(drifting)]
    expected = {
        key for key in set().union(*drifting) if len(drifting) >= needed and all(key in w for w in drifting[-needed:])
    }
    assert sustained(given, needed) == tuple(sorted(expected))


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 200), min_size=1))
@hypothesis_settings(max_examples=40)
def test_as_many_labels_as_are_said_to_be_missing_suffice(new: dict[str, int]) -> None:
    short = labels_short(replace(READY, new_labels=new), LIMITS)
    after = {name: n + short.get(name, 0) for name, n in new.items()}
    after[min(after)] += short.get("", 0) - sum(n for name, n in short.items() if name)

    def lacking(counts: dict[str, int]) -> bool:
        return bool({"labels_total", "labels_per_class"} & unmet(decide(replace(READY, new_labels=counts), LIMITS)))

    assert not lacking(after)
    assert bool(short) == lacking(new)


def test_the_cooldown_ends_to_the_second() -> None:
    assert decide(replace(READY, last_job_at=NOW - LIMITS.cooldown), LIMITS).retrain
    assert not decide(replace(READY, last_job_at=NOW - LIMITS.cooldown + timedelta(seconds=1)), LIMITS).retrain


def test_a_person_may_ask_whatever_the_policy_says_unless_a_job_is_active() -> None:
    nothing = replace(READY, windows=(), quality_alerts=(), new_labels={"a": 0, "b": 0}, last_job_at=NOW)
    decision = asked_for(nothing, LIMITS, "kim", "new camera")
    assert decision.retrain
    assert decision.conditions[0].text == "kim asked for it: new camera"
    assert {"drift", "quality_drop", "labels_total", "cooldown"} <= unmet(decision), "it is told along"
    for change in ({"active_job": 3}, {"trained_here": False}):
        assert not asked_for(replace(nothing, **change), LIMITS, "kim", "again").retrain

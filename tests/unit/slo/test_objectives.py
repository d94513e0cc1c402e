"""Which objectives there are by default, what may be set, and what is refused because it could never fire."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.settings import SettingsError
from monitor.domain import durations
from monitor.domain.finding import Verdict
from monitor.domain.objectives import ALL_ROWS, DEFAULTS, Objectives
from monitor.domain.signals import PAGE
from monitor.domain.slo import BurnRule, Counts, Evidence, Slo, read
from monitor.settings import MonitorSettings
from monitor.slo_settings import SloSettings, objectives

URL = "postgresql+psycopg2://monitor:hunter2hunter2@db/fusionwatch"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)  # away from any .env
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", URL)
    return monkeypatch


def by_name(changes: dict[str, SloSettings | None]) -> dict[str, Slo]:
    return {slo.name: slo for slo in objectives(changes).of(["image", "text"])}


def test_the_defaults_are_those_that_people_expect() -> None:
    held = by_name({})
    assert {name: slo.target for name, slo in held.items()} == {
        "image_availability": 0.99,
        "text_availability": 0.99,
        "fusion_latency": 0.95,
        "end_to_end_latency": 0.95,
        "agreement": 0.9,
        "dead_letters": 0.999,
    }
    assert held["fusion_latency"].sli == "latency.fuse.50"
    assert held["end_to_end_latency"].sli == "latency.total.300"
    pages = {name for name, slo in held.items() if any(rule.severity == PAGE for rule in slo.rules)}
    assert pages == {"image_availability", "text_availability", "fusion_latency", "end_to_end_latency"}
    assert [str(rule) for rule in ALL_ROWS] == [
        "page above 14.4 over 1h and 5m",
        "page above 6 over 6h and 30m",
        "page above 5 over 1h and 5m",
        "ticket above 2 over 30m and 15m",
        "ticket above 3 over 1d and 2h",
        "ticket above 1 over 3d and 6h",
    ]


def test_an_alert_of_availability_is_about_its_modality() -> None:
    assert {slo.of for slo in by_name({}).values()} >= {"image", "text"}


def test_targets_limits_and_rules_can_be_set_and_objectives_switched_off(environment: pytest.MonkeyPatch) -> None:
    changes = {
        "availability.text": {"target": 0.95},
        "end_to_end_latency": {"limit_ms": 500},
        "agreement": None,
        "dead_letters": {"rules": [{"factor": 10, "long": "2h", "short": "10m", "severity": "page"}]},
    }
    environment.setenv("FUSIONWATCH_SLOS", json.dumps(changes))
    held = by_name(MonitorSettings.from_environment().slos)
    assert (held["text_availability"].target, held["image_availability"].target) == (0.95, 0.99)
    assert held["end_to_end_latency"].sli == "latency.total.500"
    assert "agreement" not in held
    assert [str(rule) for rule in held["dead_letters"].rules] == ["page above 10 over 2h and 10m"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"availability": {"target": 0.9}}, "'page above 14.4 over 1h and 5m' can never fire"),
        ({"availability": {"target": 0.9}}, "events that are all bad burn 10 times too fast, and no faster"),
        ({"availability.text": {"target": 0.8}}, "availability.text: the rule"),
        (
            {"agreement": {"rules": [{"factor": 10, "long": "1h", "short": "5m", "severity": "ticket"}]}},
            "can never fire: at a target of 0.9",
        ),
        ({"availability": {"target": 1}}, "a target lies between 0 and 1"),
        ({"availability": {"rules": []}}, "needs a rule"),
        ({"availability": {"limit_ms": 50}}, "limit_ms is for"),
        ({"fusion_latency": {"limit_ms": 51}}, "not at 51"),
        ({"fusion_latency": {"limit": 50}}, "Extra inputs are not permitted"),
        ({"availabilty": {"target": 0.9}}, "unknown objective 'availabilty'"),
        ({"availability.": {"target": 0.95}}, "unknown objective 'availability.'"),
        ({"agreement.text": {"target": 0.95}}, "unknown objective 'agreement.text'"),
        ({"availability.text": None}, "availability.text cannot be switched off"),
        (
            {"agreement": {"rules": [{"factor": 2, "long": "5m", "short": "1h", "severity": "page"}]}},
            "a short window below its long one",
        ),
        ({"agreement": {"rules": [{"factor": 2, "long": "1 h", "short": "5m", "severity": "page"}]}}, "no length"),
        ({"agreement": {"rules": [{"factor": 2, "long": "1h", "short": "5m", "severity": "info"}]}}, "'page' or"),
    ],
)
def test_what_is_wrong_is_named_at_start(environment: pytest.MonkeyPatch, value: object, words: str) -> None:
    environment.setenv("FUSIONWATCH_SLOS", json.dumps(value))
    with pytest.raises(SettingsError) as caught:
        MonitorSettings.from_environment()
    assert "FUSIONWATCH_SLOS" in str(caught.value)
    assert words in str(caught.value)


def test_a_window_that_is_shorter_than_a_slot_is_refused(environment: pytest.MonkeyPatch) -> None:
    for slot in ("600", "301"):
        environment.setenv("FUSIONWATCH_SLOT_SECONDS", slot)
        environment.setenv("FUSIONWATCH_HOP_SECONDS", slot)
        environment.setenv("FUSIONWATCH_WINDOW_SECONDS", slot)
        with pytest.raises(
            SettingsError, match=f"can never fire: its short window is shorter than slot_seconds {slot}"
        ):
            MonitorSettings.from_environment()
    environment.setenv("FUSIONWATCH_SLOS", json.dumps(dict.fromkeys(DEFAULTS)))
    assert MonitorSettings.from_environment().slot_seconds == 301


@given(st.floats(0.5, 0.9999), st.floats(0.01, 2000))
def test_a_rule_is_refused_exactly_where_an_outage_of_everything_would_not_fire_it(
    target: float, factor: float
) -> None:
    rule = BurnRule(factor, timedelta(hours=1), timedelta(minutes=5), PAGE)
    dead = {rule.long: Counts(0, 10_000), rule.short: Counts(0, 1000)}
    fires = read(rule, target, dead, Evidence()).verdict is Verdict.DRIFT
    assert fires == rule.reachable(target)


def test_every_default_rule_can_fire() -> None:
    for slo in Objectives(DEFAULTS).of(["image"]):
        dead = dict.fromkeys(slo.windows, Counts(0, 1000))
        assert {read(rule, slo.target, dead, Evidence()).verdict for rule in slo.rules} == {Verdict.DRIFT}


@pytest.mark.parametrize(
    ("text", "words"), [("1h", "hour"), ("30m", "30 minutes"), ("3d", "3 days"), ("90s", "90 seconds")]
)
def test_lengths_read_as_they_are_written(text: str, words: str) -> None:
    assert durations.short(durations.parse(text)) == text
    assert durations.in_words(durations.parse(text)) == words


@pytest.mark.parametrize("text", ["", "0m", "1.5h", "5 m", "-1h", "1w", "h"])
def test_a_length_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no length of time"):
        durations.parse(text)

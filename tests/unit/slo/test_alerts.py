"""How alerts read what objectives say: at once or after the detector, over or unknown, and in whose place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitor.alerts.inhibitions import INHIBITIONS, Inhibition
from monitor.alerts.names import BURN_RATE, BURN_RATE_ALERTS
from monitor.alerts.rule import Rule
from monitor.alerts.rules import RULES
from monitor.domain.alert import Signal
from monitor.domain.finding import Finding
from monitor.domain.objectives import DEFAULTS, Objectives
from monitor.domain.signals import PAGE, TICKET
from monitor.domain.slo import SEVERITIES, Counts, Evidence, Slo
from monitor.domain.slo_report import report

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SLOS = {slo.name: slo for slo in Objectives(DEFAULTS).of(["text"])}
BURNS = {rule.severity: rule for rule in RULES if rule.detector in BURN_RATE.values()}


def finding(slo: Slo, severity: str, counts: Counts) -> Finding:
    """What is said where every window holds these counts."""
    found = report(slo, dict.fromkeys(slo.windows, counts), Evidence())
    return found.finding(severity, BURN_RATE[severity], NOW, "v1")


@pytest.mark.parametrize("severity", SEVERITIES)
def test_each_severity_has_its_rule(severity: str) -> None:
    rule: Rule = BURNS[severity]
    assert (rule.alertname, rule.detector) == (BURN_RATE_ALERTS[severity], BURN_RATE[severity])


@pytest.mark.parametrize(
    ("name", "signal"),
    [("text_availability", Signal.BREACH), ("fusion_latency", Signal.URGENT), ("end_to_end_latency", Signal.URGENT)],
)
def test_only_what_no_detector_watches_fires_at_once(name: str, signal: Signal) -> None:
    assert BURNS[PAGE].signal(finding(SLOS[name], PAGE, Counts(100, 1000))) is signal


@pytest.mark.parametrize(
    ("counts", "signal"),
    [
        (Counts(1000, 1000), Signal.CLEAR),
        (Counts(20, 20), Signal.CLEAR),  # too few to call it well, enough to call it over
        (Counts(17, 20), Signal.UNKNOWN),
        (Counts(), Signal.UNKNOWN),
    ],
)
def test_what_fired_is_over_only_where_nothing_burns(counts: Counts, signal: Signal) -> None:
    assert BURNS[PAGE].signal(finding(SLOS["text_availability"], PAGE, counts)) is signal


def test_a_finding_carries_value_interval_threshold_window_and_rule() -> None:
    found = finding(SLOS["text_availability"], PAGE, Counts(920, 1000))
    assert found.value == pytest.approx(8.0)
    assert found.interval is not None
    assert found.interval[0] < 8.0 < found.interval[1]
    assert (found.threshold, found.window.length, found.n_current) == (6, timedelta(hours=6), 1000)
    assert found.details["rule"] == "page above 6 over 6h and 30m"
    assert found.modality == "text"
    assert BURNS[PAGE].describe(found) == found.explanation


def test_at_low_traffic_the_finding_is_about_six_hours() -> None:
    found = finding(SLOS["text_availability"], TICKET, Counts(50, 60))
    assert (found.window.length, found.n_current, found.details["bad"]) == (timedelta(hours=6), 60, 10)
    assert found.explanation.startswith("Text availability fails at low traffic: 10 of 60 requests")


def test_an_outage_explains_its_burn_and_no_burn_an_outage() -> None:
    for severity in SEVERITIES:
        assert Inhibition("ModalityUnavailable", BURN_RATE_ALERTS[severity], "<same>") in INHIBITIONS
    assert all(rule.target != "ModalityUnavailable" for rule in INHIBITIONS)

"""Every rule of the monitor, and each of Prometheus that names one, has a runbook: meaning, looks, escalation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.alerts import flaps
from monitor.alerts.names import WEEKLY_REPORT
from monitor.alerts.rule import Rule
from monitor.alerts.rules import RULES
from monitor.tasks import lifeline, report

DASHBOARDS = Path(__file__).parents[3] / "dashboards"
RUNBOOKS = DASHBOARDS / "runbooks"
PROMETHEUS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DASHBOARDS / "prometheus/rules.yml").read_text())["groups"]
    for rule in group["rules"]
    if "runbook" in rule.get("annotations", {})
]


def check(runbook: str, severity: str) -> str:
    """The alert that a runbook is about."""
    text = (RUNBOOKS / f"{runbook}.md").read_text()
    assert f"**{severity.capitalize()}**" in text
    looks = text.split("## First five things to look at")[1].split("## When to escalate")[0]
    assert re.findall(r"^(\d)\. \S", looks, flags=re.MULTILINE) == list("12345")
    assert looks.count("```sh") >= 3
    return text.splitlines()[0].removeprefix("# ")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.alertname}-{rule.patience.for_windows}")
def test_runbook(rule: Rule) -> None:
    assert check(rule.runbook, rule.severity) == rule.alertname


def test_a_page_without_database_has_that_of_the_same_alert_of_prometheus() -> None:
    assert check(lifeline.RUNBOOK, "page") == lifeline.ALERTNAME
    (rule,) = (rule for rule in PROMETHEUS if rule["alert"] == lifeline.ALERTNAME)
    assert rule["annotations"]["runbook"] == f"dashboards/runbooks/{lifeline.RUNBOOK}.md"
    assert rule["labels"] == {"severity": "page"}


def test_the_ticket_about_flapping_has_one() -> None:
    assert check(flaps.RUNBOOK, "ticket") == flaps.ALERTNAME


def test_the_ticket_about_the_weekly_report_has_one() -> None:
    assert check(report.RUNBOOK, "ticket") == WEEKLY_REPORT


def test_runbooks_that_prometheus_names_exist() -> None:
    assert PROMETHEUS
    for rule in PROMETHEUS:
        assert (DASHBOARDS.parent / rule["annotations"]["runbook"]).is_file(), rule["alert"]


def test_no_runbook_is_without_its_rule() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {
        *(rule.runbook for rule in RULES),
        lifeline.RUNBOOK,
        flaps.RUNBOOK,
        report.RUNBOOK,
    }

"""Every shipped rule has a runbook that says what it means, where to look and when to escalate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monitor.alerts.rules import RULES, Rule

RUNBOOKS = Path(__file__).parents[3] / "dashboards" / "runbooks"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.alertname}-{rule.patience.for_windows}")
def test_runbook(rule: Rule) -> None:
    text = (RUNBOOKS / f"{rule.runbook}.md").read_text()
    assert text.startswith(f"# {rule.alertname}\n")
    assert f"**{rule.severity.capitalize()}**" in text
    looks = text.split("## First five things to look at")[1].split("## When to escalate")[0]
    assert re.findall(r"^(\d)\. \S", looks, flags=re.MULTILINE) == list("12345")
    assert looks.count("```sh") >= 3


def test_no_runbook_is_without_its_rule() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {rule.runbook for rule in RULES}

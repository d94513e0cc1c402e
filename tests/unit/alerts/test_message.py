"""Every message says which modality, since when, how bad, what moved, of which version, and where to look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitor.alerts.message import Links, annotate, message
from monitor.alerts.rule import Rule
from monitor.alerts.rules import RULES
from monitor.alerts.stages import FIRING, RESOLVED, Notice, Tracked
from monitor.domain.alert import Alert, State
from monitor.domain.finding import Finding
from monitor.domain.window import Window

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINKS = Links("https://status.example/", "https://docs.example/runbooks/")
MOVED = [{"statistic": "brightness", "sd": -1.9}]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.alertname}-{rule.patience.for_windows}")
@pytest.mark.parametrize("event", [FIRING, RESOLVED])
def test_what_every_alert_names(rule: Rule, event: str) -> None:
    modality = next(iter(sorted(rule.only)), "image")
    found = Finding(
        detector=rule.detector,
        modality=modality,
        window=Window(NOW - timedelta(hours=1), NOW),
        verdict=next(iter(sorted(rule.breach))),
        value=0.42,
        p_value=0.001,
        effect=0.42,
        interval=(0.4, 0.44),
        threshold=0.1,
        n_reference=1000,
        n_current=500,
        baseline_id=1,
        model_version="v7",
        explanation="Brightness fell by 1.9 standard deviations.",
        details={"moved": MOVED},
    )
    over = NOW + timedelta(hours=1) if event == RESOLVED else None
    alert = Alert("f" * 64, State(event), NOW, NOW, 2, firing_since=NOW, resolved_at=over)
    tracked = Tracked(17, rule.alertname, rule.severity, modality, alert, model_version="v7")
    said = message(Notice(tracked, event), "fusion", annotate(rule, found, LINKS), None)
    assert (said["alertname"], said["severity"], said["state"]) == (rule.alertname, rule.severity, event)
    assert (said["modality"], said["since"], said["model_version"]) == (modality, NOW.isoformat(), "v7")
    assert (said["value"], said["interval"], said["threshold"], said["moved"]) == (0.42, [0.4, 0.44], 0.1, MOVED)
    assert said["dashboard"] == "https://status.example/"
    assert said["runbook"] == f"https://docs.example/runbooks/{rule.runbook}.md"
    assert "Brightness fell by 1.9 standard deviations." in said["summary"]
    assert said["summary"].startswith("resolved: ") == (event == RESOLVED)
    assert said["resolved_at"] == (over and over.isoformat())

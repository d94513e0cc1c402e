"""What is wrong now, as a list: alerts first, then what is out of bounds and no alert yet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from monitor.storage.views.models.findings import FindingView
from monitor.storage.views.models.overview import Overview
from monitor.storage.views.models.work import AlertView
from monitor.storage.views.rollouts import RolloutView
from monitor.web import words
from monitor.web.words import Sign


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong: how bad, what, since when, and the page that tells more."""

    sign: Sign
    title: str
    note: str
    since: datetime
    href: str


def troubles(overview: Overview, rollout: RolloutView | None, now: datetime) -> list[Trouble]:
    """Alerts that fire or are about to, then checks out of bounds without one, then a challenger that fails."""
    found = [_alert(each, now) for each in overview.alerts]
    alerting = {(each.detector, each.modality) for each in overview.alerts}
    found += [_check(each) for each in _drifting(overview.checks) if (each.detector, each.modality) not in alerting]
    if rollout is not None and rollout.failed_checks:
        found.append(_rollout(rollout))
    return found


def _drifting(checks: Sequence[FindingView]) -> list[FindingView]:
    return [each for each in checks if each.verdict == "drift"]


def _alert(alert: AlertView, now: datetime) -> Trouble:
    notes = [alert.severity, f"{alert.alertname} on {alert.modality}"]
    if alert.inhibited_by:
        notes.append(f"explained by {alert.inhibited_by}")
    if alert.silenced:
        notes.append(f"silenced until {words.clock_time(alert.silenced.until, now)} by {alert.silenced.by}")
    if alert.acknowledged_by:
        notes.append(f"{alert.acknowledged_by} looks after it")
    title = str(alert.annotations.get("summary") or f"{alert.alertname} on {alert.modality}")
    return Trouble(words.ALERT_STATES[alert.state], title, " · ".join(notes), alert.since, f"/alerts/{alert.alert_id}")


def _check(check: FindingView) -> Trouble:
    about = words.detector(check.detector).name.lower()
    note = f"{words.modality(check.modality)}: {about} · no alert: it has not lasted, or has no consequences"
    sign = words.verdict(check.verdict, check.detector)
    return Trouble(sign, check.explanation, note, check.window_start, f"/findings/{check.finding_id}")


def _rollout(rollout: RolloutView) -> Trouble:
    said = f"{rollout.failed_checks} check{'s' if rollout.failed_checks > 1 else ''} of it failed in a row"
    title = f"The challenger {rollout.version} fails in {rollout.stage}"
    return Trouble(words.OUTCOMES["failed"], title, said, rollout.step_since, "/rollouts")

"""What a receiver is told of an alert: one JSON object, the same for every channel.

It is flat but for `grouped`: the other alerts that the same message tells of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor.alerts.names import ALL
from monitor.alerts.rule import Rule, labels
from monitor.alerts.stages import FIRING, RESOLVED, Notice
from monitor.domain.alert import fingerprint
from monitor.domain.finding import Finding
from monitor.domain.signals import PAGE

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Links:
    """Where links in messages lead: the status page, and the folder or site that holds the runbooks."""

    dashboard: str
    runbooks: str

    def runbook(self, slug: str) -> str:
        """The address of one runbook."""
        return f"{self.runbooks.rstrip('/')}/{slug}.md"


def annotate(rule: Rule, finding: Finding, links: Links) -> dict[str, Any]:
    """What an alert keeps of the finding that last breached its rule."""
    interval = None if finding.interval is None else list(finding.interval)
    return {
        "summary": rule.describe(finding),
        "value": finding.value,
        "interval": interval,
        "threshold": finding.threshold,
        "p_value": finding.p_value,
        "moved": finding.details.get("moved", []),
        "model_version": finding.model_version,
        "window_end": finding.window.end.isoformat(),
        "dashboard": links.dashboard,
        "runbook": links.runbook(rule.runbook),
    }


def message(notice: Notice, model: str, told: dict[str, Any], inhibited_by: str | None) -> dict[str, Any]:
    """The message of a notice. `told` are the alert's annotations; times are RFC 3339."""
    tracked = notice.tracked
    resolved = notice.event == RESOLVED
    return {
        "schema_version": SCHEMA_VERSION,
        "alert_id": tracked.alert_id,
        "fingerprint": tracked.alert.fingerprint,
        "alertname": tracked.alertname,
        "severity": tracked.severity,
        "state": notice.event,
        "model": model,
        "modality": tracked.modality,
        "since": _rfc3339(tracked.alert.pending_since),
        "resolved_at": _rfc3339(tracked.alert.resolved_at) if resolved else None,
        **told,
        "summary": f"resolved: {told['summary']}" if resolved else told["summary"],
        "inhibited_by": inhibited_by,
        "grouped": [],
    }


def direct(
    alertname: str,
    summary: str,
    *,
    model: str,
    since: datetime,
    resolved_at: datetime | None,
    links: Links,
    runbook: str,
    severity: str = PAGE,
) -> dict[str, Any]:
    """The message of what no finding and no alert of the database stands behind; `alert_id` is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "alert_id": None,
        "fingerprint": fingerprint(alertname, labels(model, ALL)),
        "alertname": alertname,
        "severity": severity,
        "state": FIRING if resolved_at is None else RESOLVED,
        "model": model,
        "modality": ALL,
        "since": _rfc3339(since),
        "resolved_at": _rfc3339(resolved_at),
        "summary": summary if resolved_at is None else f"resolved: {summary}",
        "value": None,
        "interval": None,
        "threshold": None,
        "p_value": None,
        "moved": [],
        "model_version": None,
        "window_end": None,
        "dashboard": links.dashboard,
        "runbook": links.runbook(runbook),
        "inhibited_by": None,
        "grouped": [],
    }


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()

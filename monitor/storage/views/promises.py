"""What the sequential monitor promises, beside what was observed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from migrations.schema.monitoring import alerts, findings
from monitor.alerts.names import ALL, GRADUAL, GRADUAL_PAGE
from monitor.alerts.rules import RULES
from monitor.storage.views.models.objectives import Promise

_GRADUAL = {rule.alertname for rule in RULES if rule.detector in (GRADUAL, GRADUAL_PAGE)}


def promises(connection: Connection, model: str, now: datetime) -> list[Promise]:
    """One promise for each severity, pages first; none before the first window of the sequential monitor."""
    newest = (
        select(findings)
        .ext(distinct_on(findings.c.detector))
        .where(
            findings.c.model == model,
            findings.c.detector.in_((GRADUAL, GRADUAL_PAGE)),
            findings.c.modality == ALL,
        )
        .order_by(findings.c.detector, findings.c.window_end.desc(), findings.c.finding_id.desc())
    )
    found = [_promise(connection, model, dict(row), now) for row in connection.execute(newest).mappings()]
    return sorted(found, key=lambda each: each.severity)


def _promise(connection: Connection, model: str, row: dict[str, Any], now: datetime) -> Promise:
    kept = row["details"]
    shown = ("severity", "days", "allowed", "series", "calibrated", "taken", "needed")
    fired, gradual = _fired(connection, model, kept["severity"], now - timedelta(days=kept["days"]))
    return Promise(
        **{name: kept[name] for name in shown},
        fired=fired,
        gradual=gradual,
        evidence=row["value"],
        threshold=row["threshold"],
        judged_at=row["window_end"],
        text=row["explanation"],
    )


def _fired(connection: Connection, model: str, severity: str, since: datetime) -> tuple[int, int]:
    rows = connection.execute(
        select(func.count(), func.count().filter(alerts.c.alertname.in_(_GRADUAL))).where(
            alerts.c.labels["model"].astext == model,
            alerts.c.severity == severity,
            alerts.c.firing_since > since,
        )
    ).one()
    return rows[0], rows[1]

"""What is told of one alert besides the alert: the findings behind it, and who was notified."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, select

from migrations.schema.monitoring import alerts, findings, notifications
from monitor.storage.views.models.base import Read
from monitor.storage.views.models.findings import FindingDetail
from monitor.storage.views.models.work import AlertView
from monitor.storage.views.work import alert_rows

MAX_NOTICES = 50
MAX_ALERTS = 10


class Notice(Read):
    """What became of one message about an alert."""

    event: Literal["firing", "resolved"]
    receiver: str
    round: int
    status: Literal["due", "sent", "failed", "suppressed"]
    reason: str | None
    attempts: int
    created_at: datetime
    sent_at: datetime | None


def notices(connection: Connection, alert_id: int) -> list[Notice]:
    """Messages about an alert, newest first."""
    columns = [notifications.c[name] for name in Notice.model_fields]
    query = select(*columns).where(notifications.c.alert_id == alert_id)
    rows = connection.execute(query.order_by(notifications.c.notification_id.desc()).limit(MAX_NOTICES)).mappings()
    return [Notice.model_validate(dict(row)) for row in rows]


def alerts_of(connection: Connection, model: str, finding: FindingDetail) -> list[AlertView]:
    """Alerts of the finding's detector and modality that were open during its window, newest first."""
    query = (
        alert_rows(model)
        .where(
            findings.c.detector == finding.detector,
            alerts.c.modality == finding.modality,
            alerts.c.pending_since <= finding.window_end,
            alerts.c.resolved_at.is_(None) | (alerts.c.resolved_at >= finding.window_start),
        )
        .order_by(alerts.c.alert_id.desc())
        .limit(MAX_ALERTS)
    )
    return [AlertView.model_validate(dict(row)) for row in connection.execute(query).mappings()]

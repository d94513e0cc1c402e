"""Alerts: the newest of each series, and their moves. The database lets a series have one open alert."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, column, func, insert, literal, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB

from migrations.schema.monitoring import alerts, notifications
from monitor.alerts.stages import FIRING, SENT, Tracked
from monitor.domain.alert import Alert, State

_MOVING = (
    "state",
    "pending_since",
    "firing_since",
    "resolved_at",
    "clear_since",
    "breached_windows",
    "clear_windows",
    "last_window_end",
)


@dataclass(frozen=True, slots=True)
class Stored:
    """An alert's row: the moving part, and what names and explains it."""

    alert_id: int
    alertname: str
    severity: str
    modality: str
    inhibited_by: str | None
    annotations: Mapping[str, Any]
    alert: Alert
    silenced_by: int | None = None
    acknowledged: bool = False

    def tracked(self) -> Tracked:
        """The alert as the stages see it."""
        return Tracked(
            self.alert_id,
            self.alertname,
            self.severity,
            self.modality,
            self.alert,
            model_version=self.annotations.get("model_version") or "",
            silenced_by=self.silenced_by,
            acknowledged=self.acknowledged,
            flaps=self.annotations.get("flaps"),
        )


def _stored(row: Row[Any]) -> Stored:
    moving = {name: getattr(row, name) for name in _MOVING}
    alert = Alert(fingerprint=row.fingerprint, **{**moving, "state": State(row.state)})
    return Stored(
        row.alert_id,
        row.alertname,
        row.severity,
        row.modality,
        row.inhibited_by,
        row.annotations,
        alert,
        row.silenced_by,
        row.acknowledged_by is not None,
    )


def current(connection: Connection, model: str, since: datetime) -> list[Stored]:
    """The model's alerts that are open, or moved after `since`, oldest first."""
    rows = connection.execute(
        select(alerts)
        .where(
            alerts.c.labels["model"].astext == model,
            or_(alerts.c.state != str(State.RESOLVED), alerts.c.last_window_end > since),
        )
        .order_by(alerts.c.alert_id)
    )
    return [_stored(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Opened:
    """An alert to write for the first time."""

    alert: Alert
    alertname: str
    severity: str
    labels: Mapping[str, str]
    annotations: Mapping[str, Any]
    finding_id: int | None


@dataclass(frozen=True, slots=True)
class Moved:
    """An alert's new state, and with `annotations` what its newest breach looked like."""

    stored: Stored
    alert: Alert
    annotations: Mapping[str, Any] | None = None
    finding_id: int | None = None


def add(connection: Connection, opened: Sequence[Opened]) -> list[Stored]:
    """Open alerts, in order. Raises sqlalchemy.exc.IntegrityError where the series of one has an open one."""
    rows = [
        {
            "fingerprint": one.alert.fingerprint,
            "alertname": one.alertname,
            "severity": one.severity,
            "modality": one.labels["modality"],
            "labels": dict(one.labels),
            "annotations": dict(one.annotations),
            "finding_id": one.finding_id,
            **_values(one.alert),
        }
        for one in opened
    ]
    if not rows:
        return []
    ids = connection.scalars(insert(alerts).returning(alerts.c.alert_id, sort_by_parameter_order=True), rows)
    return [
        Stored(alert_id, one.alertname, one.severity, one.labels["modality"], None, one.annotations, one.alert)
        for alert_id, one in zip(ids, opened, strict=True)
    ]


def move(connection: Connection, moved: Sequence[Moved]) -> list[Stored]:
    """Write alerts' new states, in order."""
    told = [one for one in moved if one.annotations is not None]
    _update(connection, [{"alert_id": one.stored.alert_id, **_values(one.alert)} for one in moved])
    _update(
        connection,
        [
            {"alert_id": one.stored.alert_id, "annotations": one.annotations, "finding_id": one.finding_id}
            for one in told
        ],
    )
    return [
        replace(
            one.stored,
            alert=one.alert,
            annotations=one.stored.annotations if one.annotations is None else one.annotations,
        )
        for one in moved
    ]


def explain(connection: Connection, causes: Mapping[int, str | None]) -> None:
    """Write which alert explains each of these now."""
    _update(connection, [{"alert_id": alert_id, "inhibited_by": title} for alert_id, title in causes.items()])


def silence(connection: Connection, held: Mapping[int, int | None]) -> None:
    """Write which silence holds each of these back; None once that is over and nothing else holds it."""
    _update(connection, [{"alert_id": alert_id, "silenced_by": silence_id} for alert_id, silence_id in held.items()])


def _update(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of one set of columns in one statement, each to the alert of its `alert_id`."""
    if not rows:
        return
    columns = [alerts.c[name] for name in rows[0]]
    given = func.jsonb_to_recordset(cast(literal(_json(rows), Text), JSONB))
    new = given.table_valued(*(column(each.name, each.type) for each in columns)).render_derived(
        name="new", with_types=True
    )
    values = {each.name: new.c[each.name] for each in columns if each.name != "alert_id"}
    connection.execute(update(alerts).where(alerts.c.alert_id == new.c.alert_id).values(values))


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps([dict(row) for row in rows], default=_rfc3339)


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat()


def flapping_since(connection: Connection, model: str) -> datetime | None:
    """Since when the oldest open ticket about flapping is open; None without one."""
    found: datetime | None = connection.scalar(
        select(func.min(alerts.c.firing_since)).where(
            alerts.c.labels["model"].astext == model,
            alerts.c.state != str(State.RESOLVED),
            alerts.c.annotations.has_key("flaps"),
        )
    )
    return found


def _values(alert: Alert) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in _MOVING} | {"state": str(alert.state)}


def firing(connection: Connection, model: str, model_version: str) -> dict[int, str]:
    """The names, by id, of alerts that fire now and whose newest breach was of that version."""
    rows = connection.execute(
        select(alerts.c.alert_id, alerts.c.alertname)
        .where(
            alerts.c.state == str(State.FIRING),
            alerts.c.labels["model"].astext == model,
            alerts.c.annotations["model_version"].astext == model_version,
        )
        .order_by(alerts.c.alert_id)
    )
    return {row.alert_id: row.alertname for row in rows}


def told_firing(connection: Connection, model: str, receiver: str) -> list[int]:
    """The alerts that fire now and of whose firing the receiver was told, oldest first."""
    told = (
        select(notifications.c.notification_id)
        .where(
            notifications.c.alert_id == alerts.c.alert_id,
            notifications.c.receiver == receiver,
            notifications.c.event == FIRING,
            notifications.c.status == SENT,
        )
        .exists()
    )
    fires = (alerts.c.state == str(State.FIRING)) & (alerts.c.labels["model"].astext == model)
    return list(connection.scalars(select(alerts.c.alert_id).where(fires, told).order_by(alerts.c.alert_id)))


def still_firing(connection: Connection, alert_id: int) -> Stored | None:
    """The alert as it is now; None where it does not fire."""
    row = connection.execute(
        select(alerts).where(alerts.c.alert_id == alert_id, alerts.c.state == str(State.FIRING))
    ).first()
    return None if row is None else _stored(row)


def firing_counts(connection: Connection, model: str) -> dict[tuple[str, str], int]:
    """How many alerts fire now, by name and severity."""
    rows = connection.execute(
        select(alerts.c.alertname, alerts.c.severity, func.count())
        .where(alerts.c.state == str(State.FIRING), alerts.c.labels["model"].astext == model)
        .group_by(alerts.c.alertname, alerts.c.severity)
    )
    return {(name, severity): n for name, severity, n in rows}


def newest(connection: Connection, model: str, limit: int) -> Sequence[Row[Any]]:
    """Open and recent alerts that fired or are about to, newest first."""
    return connection.execute(
        select(alerts)
        .where(
            alerts.c.labels["model"].astext == model,
            or_(alerts.c.state != str(State.RESOLVED), alerts.c.firing_since.is_not(None)),
        )
        .order_by(alerts.c.alert_id.desc())
        .limit(limit)
    ).all()


def fired_within(connection: Connection, model: str, start: datetime, end: datetime) -> list[str]:
    """Names of a model's alerts that were firing at some time in [start, end), sorted, each once."""
    query = select(alerts.c.alertname).distinct().order_by(alerts.c.alertname)
    return list(
        connection.scalars(
            query.where(
                alerts.c.labels["model"].astext == model,
                alerts.c.firing_since < end,
                alerts.c.resolved_at.is_(None) | (alerts.c.resolved_at >= start),
            )
        )
    )

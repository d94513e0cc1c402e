"""Silences and acknowledgements: kept for good, each change with a row in the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from migrations.schema.monitoring import alerts, audit_log, silences
from monitor.domain.alert import State
from monitor.domain.silence import Draft, Kind, Silence
from monitor.errors import SilenceError


def _over() -> ColumnElement[datetime]:
    """When it ends: early, where someone ended it."""
    return func.least(silences.c.ends_at, func.coalesce(silences.c.ended_at, silences.c.ends_at))


def _read(row: Row[Any]) -> Silence:
    return Silence(row.silence_id, Kind(row.kind), row.matchers, row.starts_at, row.over, row.owner, row.reason)


def active(connection: Connection, model: str, now: datetime) -> tuple[Silence, ...]:
    """The model's silences that hold now, oldest first."""
    rows = connection.execute(
        select(silences, _over().label("over"))
        .where(silences.c.model == model, silences.c.starts_at <= now, _over() > now)
        .order_by(silences.c.silence_id)
    )
    return tuple(_read(row) for row in rows)


def listed(
    connection: Connection,
    model: str,
    now: datetime,
    *,
    ended: bool = False,
    before: int | None = None,
    limit: int | None = None,
) -> Sequence[Silence]:
    """The model's silences that hold or will hold, newest first; with `ended` those that are over too.

    `before` leaves out that number and those after it; `limit` is how many at most, by default all.
    """
    query = select(silences, _over().label("over")).where(silences.c.model == model)
    if not ended:
        query = query.where(_over() > now)
    if before is not None:
        query = query.where(silences.c.silence_id < before)
    rows = connection.execute(query.order_by(silences.c.silence_id.desc()).limit(limit))
    return [_read(row) for row in rows]


def create(connection: Connection, model: str, draft: Draft, now: datetime, actor: str | None = None) -> Silence:
    """Keep a checked draft. Audited, by default as its owner's."""
    row = connection.execute(
        insert(silences)
        .values(
            model=model,
            kind=str(draft.kind),
            matchers=dict(draft.matchers),
            starts_at=draft.start,
            ends_at=draft.end,
            owner=draft.owner,
            reason=draft.reason,
            created_at=now,
        )
        .returning(silences, _over().label("over"))
    ).one()
    details = {
        "kind": str(draft.kind),
        "matchers": dict(draft.matchers),
        "starts_at": draft.start.isoformat(),
        "ends_at": draft.end.isoformat(),
        "reason": draft.reason,
    }
    _audit(connection, "silence_created", f"silence {row.silence_id}", actor or draft.owner, now, details)
    return _read(row)


def end(connection: Connection, model: str, silence_id: int, *, actor: str, reason: str, now: datetime) -> Silence:
    """End a silence before its time. Audited. Raises SilenceError where there is none, or it is over."""
    row = connection.execute(
        update(silences)
        .where(silences.c.model == model, silences.c.silence_id == silence_id, _over() > now)
        .where(silences.c.ended_at.is_(None))
        .values(ended_at=now)
        .returning(silences, _over().label("over"))
    ).first()
    if row is None:
        known = connection.scalar(select(_over()).where(silences.c.model == model, silences.c.silence_id == silence_id))
        said = "there is no such silence" if known is None else f"it ended at {known.isoformat(timespec='seconds')}"
        raise SilenceError(f"silence {silence_id}: {said}")
    _audit(connection, "silence_ended", f"silence {silence_id}", actor, now, {"reason": reason})
    return _read(row)


def acknowledge(connection: Connection, model: str, alert_id: int, *, owner: str, actor: str, now: datetime) -> str:
    """Note that `owner` looks after a firing alert; its name. Audited. Raises SilenceError where it does not fire."""
    mine = alerts.c.labels["model"].astext == model
    row = connection.execute(
        update(alerts)
        .where(mine, alerts.c.alert_id == alert_id, alerts.c.state == str(State.FIRING))
        .where(alerts.c.acknowledged_by.is_(None))
        .values(acknowledged_by=owner, acknowledged_at=now)
        .returning(alerts.c.alertname, alerts.c.modality)
    ).first()
    if row is None:
        found = connection.execute(
            select(alerts.c.state, alerts.c.acknowledged_by).where(mine, alerts.c.alert_id == alert_id)
        ).first()
        if found is None:
            raise SilenceError(f"there is no alert {alert_id}")
        if found.state != str(State.FIRING):
            raise SilenceError(f"alert {alert_id} is {found.state}; what fires can be acknowledged")
        raise SilenceError(f"alert {alert_id} is acknowledged by {found.acknowledged_by} already")
    _audit(connection, "alert_acknowledged", f"alert {alert_id}", actor, now, {"alertname": row.alertname})
    return f"{row.alertname}({row.modality})"


def _audit(
    connection: Connection, action: str, subject: str, actor: str, now: datetime, details: Mapping[str, Any]
) -> None:
    connection.execute(
        insert(audit_log).values(actor=actor, action=action, subject=subject, details=dict(details), at=now)
    )

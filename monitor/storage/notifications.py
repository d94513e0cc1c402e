"""The outbox: notifications that are due, and what became of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from migrations.schema.monitoring import notifications
from monitor.alerts.stages import DUE, FIRING, RESOLVED, SENT, SUPPRESSED


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One row of the outbox that is due. `attempts` counts tries so far."""

    notification_id: int
    alert_id: int
    event: str
    receiver: str
    payload: Mapping[str, Any]
    attempts: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """A row to write: `status` due or suppressed, and the reason for either."""

    alert_id: int
    event: str
    receiver: str
    status: str
    reason: str
    payload: Mapping[str, Any]


def statuses(connection: Connection, alert_ids: Collection[int]) -> dict[tuple[int, str, str], str]:
    """The status of every notification of these alerts, by (alert, event, receiver)."""
    rows = connection.execute(
        select(notifications.c.alert_id, notifications.c.event, notifications.c.receiver, notifications.c.status).where(
            notifications.c.alert_id.in_(alert_ids)
        )
    )
    return {(row.alert_id, row.event, row.receiver): row.status for row in rows}


def write(connection: Connection, entries: Iterable[Entry], now: datetime) -> None:
    """Write rows, each once per (alert, event, receiver); only a suppressed one may be replaced."""
    for entry in entries:
        fresh = {
            "status": entry.status,
            "reason": entry.reason,
            "payload": dict(entry.payload),
            "next_attempt_at": now,
            "created_at": now,
        }
        connection.execute(
            insert(notifications)
            .values(alert_id=entry.alert_id, event=entry.event, receiver=entry.receiver, **fresh)
            .on_conflict_do_update(
                constraint="uq_notifications_once", set_=fresh, where=notifications.c.status == SUPPRESSED
            )
        )


def claim_due(connection: Connection, now: datetime, skip_receivers: Collection[str]) -> Outgoing | None:
    """Lock and return the oldest row that is due and that no other process holds; None where there is none.

    A resolve waits until its firing message has been sent, failed or been suppressed.
    """
    firing = notifications.alias("firing")
    waits = (
        select(firing.c.notification_id)
        .where(
            firing.c.alert_id == notifications.c.alert_id,
            firing.c.receiver == notifications.c.receiver,
            firing.c.event == FIRING,
            firing.c.status == DUE,
        )
        .exists()
    )
    row = connection.execute(
        select(notifications)
        .where(
            notifications.c.status == DUE,
            notifications.c.next_attempt_at <= now,
            notifications.c.receiver.not_in(skip_receivers),
            ~((notifications.c.event == RESOLVED) & waits),
        )
        .order_by(notifications.c.next_attempt_at, notifications.c.notification_id)
        .limit(1)
        .with_for_update(skip_locked=True, of=notifications)
    ).first()
    if row is None:
        return None
    return Outgoing(
        row.notification_id, row.alert_id, row.event, row.receiver, row.payload, row.attempts, row.created_at
    )


def dedup_key(outgoing: Outgoing) -> str:
    """The key that tells a receiver that two tries are one message: fingerprint, event and alert."""
    return f"{outgoing.payload['fingerprint']}-{outgoing.event}-{outgoing.alert_id}"


def firing_status(connection: Connection, outgoing: Outgoing) -> str | None:
    """The status of the firing message to the same receiver."""
    return connection.scalar(
        select(notifications.c.status).where(
            notifications.c.alert_id == outgoing.alert_id,
            notifications.c.receiver == outgoing.receiver,
            notifications.c.event == FIRING,
        )
    )


def mark_sent(connection: Connection, notification_id: int, now: datetime) -> None:
    """Record a delivery."""
    _finish(connection, notification_id, status=SENT, sent_at=now, attempts=notifications.c.attempts + 1)


def mark_retry(connection: Connection, notification_id: int, at: datetime, reason: str) -> None:
    """Record a failed try and when the next one is due."""
    _finish(connection, notification_id, next_attempt_at=at, reason=reason, attempts=notifications.c.attempts + 1)


def mark_ended(connection: Connection, notification_id: int, status: str, reason: str) -> None:
    """Record that a row will never be sent (`failed` after a try, `suppressed` without one), and why."""
    tried = 0 if status == SUPPRESSED else 1
    _finish(connection, notification_id, status=status, reason=reason, attempts=notifications.c.attempts + tried)


def _finish(connection: Connection, notification_id: int, **values: Any) -> None:
    connection.execute(update(notifications).where(notifications.c.notification_id == notification_id).values(**values))

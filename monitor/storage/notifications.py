"""The outbox: notifications that are due, and what became of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, and_, any_, cast, func, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from migrations.schema.monitoring import alerts, notifications
from monitor.alerts.grouping import Group
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
    round: int
    group_key: str | None
    next_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """A row to write: `status` due or suppressed, and the reason for either.

    `again` gives it a round of its own; `due_at` is when it is to be sent.
    """

    alert_id: int
    event: str
    receiver: str
    status: str
    reason: str
    payload: Mapping[str, Any]
    group_key: str
    due_at: datetime
    again: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What the log holds of one alert, event and receiver: the newest round's status and when it was written.

    `sent_at` is when any round was sent last.
    """

    status: str
    written_at: datetime
    sent_at: datetime | None


Key = tuple[int, str, str]  # alert, event, receiver


def log(connection: Connection, alert_ids: Collection[int]) -> dict[Key, Told]:
    """What became of every notification of these alerts."""
    columns = ("alert_id", "event", "receiver", "status", "created_at", "sent_at")
    rows = connection.execute(
        select(*(notifications.c[name] for name in columns)).where(_of(alert_ids)).order_by(notifications.c.round)
    )
    found: dict[Key, Told] = {}
    for row in rows:
        key = (row.alert_id, row.event, row.receiver)
        sent = [moment for moment in (row.sent_at, found[key].sent_at if key in found else None) if moment is not None]
        found[key] = Told(row.status, row.created_at, max(sent, default=None))
    return found


def _of(alert_ids: Collection[int]) -> ColumnElement[bool]:
    """One array, however many there are."""
    return notifications.c.alert_id == any_(cast(list(alert_ids), ARRAY(BigInteger)))


def groups(
    connection: Connection, keys: Collection[str], now: datetime, interval: timedelta
) -> dict[tuple[str, str], Group]:
    """Which of these groups wait to be told, and which were told within the interval, by (receiver, key)."""
    waits = (notifications.c.status == DUE) & (notifications.c.attempts == 0) & (notifications.c.next_attempt_at > now)
    rows = connection.execute(
        select(
            notifications.c.receiver,
            notifications.c.group_key,
            func.min(notifications.c.next_attempt_at).filter(waits).label("waiting_until"),
            func.max(notifications.c.sent_at).label("last_sent"),
        )
        .where(
            notifications.c.group_key.in_(keys),
            or_(notifications.c.status == DUE, notifications.c.sent_at > now - interval),
        )
        .group_by(notifications.c.receiver, notifications.c.group_key)
    )
    return {(row.receiver, row.group_key): Group(row.waiting_until, row.last_sent) for row in rows}


def write(connection: Connection, entries: Sequence[Entry], now: datetime) -> list[Entry]:
    """Write rows, each once per (alert, event, receiver, round); those that were written.

    Only a suppressed one may be replaced, and by a suppressed one that which is due and has not been tried.
    """
    if not entries:
        return []
    newest = _rounds(connection, {entry.alert_id for entry in entries})
    rows = [
        {
            "alert_id": entry.alert_id,
            "event": entry.event,
            "receiver": entry.receiver,
            "round": _round(entry, newest),
            "status": entry.status,
            "reason": entry.reason,
            "payload": dict(entry.payload),
            "group_key": entry.group_key,
            "next_attempt_at": entry.due_at,
            "created_at": now,
        }
        for entry in entries
    ]
    statement = insert(notifications)
    new = statement.excluded
    untried = (notifications.c.status == DUE) & (notifications.c.attempts == 0)
    written = connection.execute(
        statement.on_conflict_do_update(
            constraint="uq_notifications_once",
            set_={name: new[name] for name in _FRESH},
            where=or_(notifications.c.status == SUPPRESSED, and_(new.status == SUPPRESSED, untried)),
        ).returning(notifications.c.alert_id, notifications.c.event, notifications.c.receiver),
        rows,
    )
    keys = {tuple(row) for row in written}
    return [entry for entry in entries if (entry.alert_id, entry.event, entry.receiver) in keys]


_FRESH = ("status", "reason", "payload", "group_key", "next_attempt_at", "created_at")


def _round(entry: Entry, newest: Mapping[Key, int]) -> int:
    """The newest round of a notification, or the next one where it is said again; 0 for the first."""
    known = newest.get((entry.alert_id, entry.event, entry.receiver))
    return 0 if known is None else known + entry.again


def _rounds(connection: Connection, alert_ids: Collection[int]) -> dict[Key, int]:
    """The newest round of each notification of these alerts."""
    key = (notifications.c.alert_id, notifications.c.event, notifications.c.receiver)
    rows = connection.execute(select(*key, func.max(notifications.c.round)).where(_of(alert_ids)).group_by(*key))
    return {(alert_id, event, receiver): newest for alert_id, event, receiver, newest in rows}


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
    return None if row is None else _outgoing(row)


def claim_group(connection: Connection, first: Outgoing) -> list[Outgoing]:
    """Lock and return `first` and what is to be told with it: the rows of its group and event that are due as it is.

    They got one time when they were written and keep it, so that a message that is tried again holds the same alerts.
    """
    if first.group_key is None:
        return [first]
    rows = connection.execute(
        select(notifications)
        .where(
            notifications.c.status == DUE,
            notifications.c.receiver == first.receiver,
            notifications.c.group_key == first.group_key,
            notifications.c.event == first.event,
            notifications.c.next_attempt_at == first.next_attempt_at,
            notifications.c.attempts == first.attempts,
        )
        .order_by(notifications.c.notification_id)
        .with_for_update(skip_locked=True)
    )
    return [_outgoing(row) for row in rows]


def _outgoing(row: Row[Any]) -> Outgoing:
    return Outgoing(**{name: getattr(row, name) for name in Outgoing.__dataclass_fields__})


def dedup_key(message: Sequence[Outgoing]) -> str:
    """The key that tells a receiver that two tries are one message: of each row fingerprint, event, alert and round."""
    keys = [f"{each.payload['fingerprint']}-{each.event}-{each.alert_id}" for each in message]
    named = [f"{key}-{each.round}" if each.round else key for key, each in zip(keys, message, strict=True)]
    if len(named) == 1:
        return named[0]
    return f"{named[0]}-{hashlib.sha256('|'.join(named).encode()).hexdigest()[:16]}"


def was_told(connection: Connection, outgoing: Outgoing) -> bool:
    """Whether the receiver was told that the alert fires, in whatever round."""
    found = select(notifications.c.notification_id).where(
        notifications.c.alert_id == outgoing.alert_id,
        notifications.c.receiver == outgoing.receiver,
        notifications.c.event == FIRING,
        notifications.c.status == SENT,
    )
    return connection.scalar(found.limit(1)) is not None


def fires_again(connection: Connection, outgoing: Outgoing) -> bool:
    """Whether a later alert of the series fires, and the receiver was told so."""
    later = (
        select(notifications.c.notification_id)
        .join(alerts, alerts.c.alert_id == notifications.c.alert_id)
        .where(
            alerts.c.fingerprint == outgoing.payload["fingerprint"],
            alerts.c.alert_id > outgoing.alert_id,
            alerts.c.state == FIRING,
            notifications.c.receiver == outgoing.receiver,
            notifications.c.event == FIRING,
            notifications.c.status == SENT,
        )
    )
    return connection.scalar(later.limit(1)) is not None


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

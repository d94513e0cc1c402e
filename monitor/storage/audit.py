"""The audit log: appended to and read, never changed. A trigger numbers and links its rows: audit_chain.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy import BigInteger, Connection, Text, cast, exists, func, insert, select, true

from migrations.schema.audit import audit_head
from migrations.schema.monitoring import audit_log
from monitor.domain.audit import HOUR, Checked, Head, Link, Reader, check

READ = "embeddings_read"
AT_ONCE = 1000  # rows held at a time


def record(
    connection: Connection, action: str, subject: str, *, actor: str, now: datetime, details: Mapping[str, Any]
) -> None:
    """Append one row, in the caller's transaction; others that append wait for its end."""
    connection.execute(
        insert(audit_log).values(actor=actor, action=action, subject=subject, details=dict(details), at=now)
    )


def verify(connection: Connection, seen: Head | None = None) -> Checked:
    """Follow the chain from its first row to its head. One statement, so that both are of one moment."""
    log = audit_log.c
    at = cast(func.extract("epoch", log.at) * 1_000_000, BigInteger)
    query = (
        select(
            audit_head.c.number.label("head_number"),
            audit_head.c.digest.label("head_digest"),
            *(
                log[name]
                for name in ("number", "audit_id", "previous", "digest", "actor", "action", "subject", "login")
            ),
            cast(at, Text).label("moment"),
            cast(log.details, Text).label("written"),
        )
        .select_from(audit_head.outerjoin(audit_log, true()))
        .order_by(log.number)
    )
    rows = iter(connection.execute(query, execution_options={"yield_per": AT_ONCE}))
    first = next(rows, None)
    if first is None:
        return check((), None, seen)
    head = Head(first.head_number, bytes(first.head_digest))
    return check((_link(row) for row in chain([first], rows) if row.number is not None), head, seen)


def _link(row: Any) -> Link:
    fields = (row.moment, row.actor, row.action, row.subject, row.written, row.login)
    return Link(row.number, row.audit_id, bytes(row.previous), bytes(row.digest), fields)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the log."""

    number: int
    at: datetime
    actor: str
    login: str
    action: str
    subject: str
    details: Mapping[str, Any]


def listed(
    connection: Connection, *, actor: str | None = None, action: str | None = None, limit: int = 50
) -> list[Entry]:
    """The newest rows first, of one actor or one action where given."""
    log = audit_log.c
    query = select(*(log[name] for name in Entry.__slots__)).order_by(log.number.desc()).limit(limit)
    if actor is not None:
        query = query.where(log.actor == actor)
    if action is not None:
        query = query.where(log.action == action)
    return [Entry(*row) for row in connection.execute(query)]


def readers(connection: Connection, now: datetime) -> list[Reader]:
    """Who read embeddings within the hour that ends now."""
    log, before = audit_log.c, audit_log.alias().c
    since = now - HOUR
    known = exists().where(
        before.action == READ, before.at <= since, before.login == log.login, before.actor == log.actor
    )
    rows = connection.execute(
        select(log.login, log.actor, func.count(), known.label("known"), func.max(log.at))
        .where(log.action == READ, log.at > since, log.at <= now)
        .group_by(log.login, log.actor)
    )
    return [Reader(*row) for row in rows]

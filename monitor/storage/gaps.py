"""Offset gaps as workers record them; each is taken into a finding once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select, update

from migrations.schema.prediction_log import offset_gaps as table
from monitor.domain.gap import OffsetGap


def take(connection: Connection, now: datetime) -> set[str]:
    """Mark the gaps that were not seen yet; returns their kinds (`expired`, `reset`).

    The mark is part of the caller's transaction, with the finding: a rollback leaves them for the next look.
    """
    statement = update(table).where(table.c.seen_at.is_(None)).values(seen_at=now).returning(table.c.kind)
    return set(connection.scalars(statement))


def seen(connection: Connection, kind: str, since: datetime) -> list[OffsetGap]:
    """The gaps of a kind that were marked after `since`, oldest first."""
    rows = connection.execute(
        select(table)
        .where(table.c.kind == kind, table.c.seen_at > since)
        .order_by(table.c.detected_at, table.c.group_id, table.c.topic, table.c.partition)
    )
    return [
        OffsetGap(
            row.group_id,
            row.topic,
            row.partition,
            row.stored_offset,
            row.resumed_offset,
            row.lost,
            row.detected_at,
            made_anew=None not in (row.stored_topic_id, row.topic_id) and row.stored_topic_id != row.topic_id,
        )
        for row in rows
    ]

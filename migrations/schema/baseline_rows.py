"""What both programs do to rows of baselines alike: turns, numbers, pins, and what the audit log is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, func, insert, select, update

from migrations.schema.monitoring import audit_log, baselines, model_versions


def lock(connection: Connection, version: str) -> bool:
    """Changes of one version's baselines take turns, to the end of the transaction; False where it is not known."""
    query = select(model_versions.c.version).where(model_versions.c.version == version)
    # not FOR UPDATE: rows that refer to the version may still be written
    return connection.scalar(query.with_for_update(key_share=True)) is not None


def take_number(connection: Connection, version: str) -> int:
    """The next number of a registered version's baselines. One that was taken is never given again."""
    table = model_versions.c
    highest = select(func.coalesce(func.max(baselines.c.number), 0)).where(baselines.c.model_version == version)
    number: int = connection.execute(
        update(model_versions)
        .where(table.version == version)
        .values(last_baseline_number=func.greatest(table.last_baseline_number, highest.scalar_subquery()) + 1)
        .returning(table.last_baseline_number)
    ).scalar_one()
    return number


def take_first_number(connection: Connection, version: str) -> bool:
    """Take number 1, where the registered version never had a baseline; returns whether it was taken."""
    table = model_versions.c
    taken = connection.execute(
        update(model_versions)
        .where(table.version == version, table.last_baseline_number == 0)
        .where(~exists().where(baselines.c.model_version == version))
        .values(last_baseline_number=1)
    )
    return taken.rowcount == 1


def pin(connection: Connection, version: str, baseline_id: int | None) -> int | None:
    """Move a version's pin to a baseline, or take it away; the number of the one that was pinned, None without one."""
    before: int | None = connection.scalar(
        update(baselines)
        .where(baselines.c.model_version == version, baselines.c.pinned)
        .values(pinned=False)
        .returning(baselines.c.number)
    )
    if baseline_id is not None:
        connection.execute(update(baselines).where(baselines.c.baseline_id == baseline_id).values(pinned=True))
    return before


def audit(
    connection: Connection,
    action: str,
    version: str,
    number: int,
    *,
    actor: str,
    now: datetime,
    details: Mapping[str, Any],
) -> None:
    """Tell the audit log what was done to a version's baseline."""
    connection.execute(
        insert(audit_log).values(
            actor=actor, action=action, subject=f"baseline {version} {number}", details=dict(details), at=now
        )
    )

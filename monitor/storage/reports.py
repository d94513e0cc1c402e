"""Reports and their files: who makes which, what became of it, and what is forgotten."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from migrations.schema.monitoring import model_versions
from migrations.schema.reports import report_files, reports
from monitor.domain.cadence import Cadence
from monitor.domain.window import Window

RUNNING, DONE, FAILED = "running", "done", "failed"


@dataclass(frozen=True, slots=True)
class Claim:
    """A report that is this process's to make: another that begins it anew raises `attempt`, and takes it over."""

    report_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Retry:
    """A report under way is taken for lost after `lost`; one that failed is tried again after `pause`, `most` times."""

    lost: timedelta
    pause: timedelta
    most: int


def first_version(connection: Connection, model: str) -> datetime | None:
    """Since when the model is known; None where it is not."""
    at: datetime | None = connection.scalar(
        select(func.min(model_versions.c.created_at)).where(model_versions.c.model == model)
    )
    return at


def claim(
    connection: Connection, model: str, cadence: Cadence, period: Window, *, now: datetime, retry: Retry | None = None
) -> Claim | None:
    """Begin the report of a period: None where it is made, is being made, or may not be tried again.

    Without `retry` it is begun whatever there is. The row's unique key lets one of several callers win.
    """
    statement = upsert(reports).values(
        model=model,
        cadence=str(cadence),
        period_start=period.start,
        period_end=period.end,
        state=RUNNING,
        started_at=now,
    )
    again = None
    if retry is not None:
        lost = and_(reports.c.state == RUNNING, reports.c.started_at <= now - retry.lost)
        failed = and_(reports.c.state == FAILED, reports.c.finished_at <= now - retry.pause)
        again = and_(reports.c.attempts < retry.most, or_(lost, failed))
    row = connection.execute(
        statement.on_conflict_do_update(
            constraint="uq_reports_period",
            set_={"state": RUNNING, "attempts": reports.c.attempts + 1, "started_at": now, "finished_at": None},
            where=again,
        ).returning(reports.c.report_id, reports.c.attempts)
    ).first()
    return None if row is None else Claim(row.report_id, row.attempts)


def keep(
    connection: Connection,
    mine: Claim,
    files: Mapping[str, bytes],
    *,
    headline: str,
    error: str | None,
    now: datetime,
) -> bool:
    """End a report with its files, which replace those of an earlier attempt; False where another took it over."""
    ended = _end(connection, mine, state=DONE, headline=headline, error=error, finished_at=now)
    if ended:
        connection.execute(delete(report_files).where(report_files.c.report_id == mine.report_id))
        rows = [
            {
                "report_id": mine.report_id,
                "name": name,
                "sha256": hashlib.sha256(body).hexdigest(),
                "size": len(body),
                "packed": gzip.compress(body, compresslevel=6, mtime=0),
            }
            for name, body in files.items()
        ]
        connection.execute(insert(report_files), rows)
    return ended


def fail(connection: Connection, mine: Claim, *, error: str, now: datetime) -> bool:
    """End a report without files; False where another took it over."""
    return _end(connection, mine, state=FAILED, error=error, finished_at=now)


def _end(connection: Connection, mine: Claim, **values: object) -> bool:
    own = (reports.c.report_id == mine.report_id, reports.c.attempts == mine.attempt, reports.c.state == RUNNING)
    return connection.execute(update(reports).where(*own).values(**values)).rowcount == 1


def give_up(connection: Connection, model: str, *, now: datetime, retry: Retry) -> None:
    """End reports that were begun often enough and whose maker is lost."""
    connection.execute(
        update(reports)
        .where(
            reports.c.model == model,
            reports.c.state == RUNNING,
            reports.c.attempts >= retry.most,
            reports.c.started_at <= now - retry.lost,
        )
        .values(state=FAILED, finished_at=now, error=f"begun {retry.most} times, and never ended")
    )


def forget(connection: Connection, model: str, before: datetime) -> int:
    """Drop reports of periods that ended before then, with their files; how many."""
    gone = delete(reports).where(reports.c.model == model, reports.c.period_end < before, reports.c.state != RUNNING)
    return connection.execute(gone).rowcount


@dataclass(frozen=True, slots=True)
class Untold:
    """A weekly report with those who were told of it."""

    report_id: int
    period: Window
    headline: str
    finished_at: datetime
    told: Mapping[str, str]


def newest_weekly(connection: Connection, model: str) -> Untold | None:
    """The newest weekly report that is done."""
    row = connection.execute(
        select(reports)
        .where(reports.c.model == model, reports.c.cadence == str(Cadence.WEEKLY), reports.c.state == DONE)
        .order_by(reports.c.period_end.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    return Untold(row.report_id, Window(row.period_start, row.period_end), row.headline, row.finished_at, row.told)


def mark_told(connection: Connection, report_id: int, receiver: str, outcome: str) -> None:
    """Note what became of a report's ticket to one receiver."""
    entry = func.jsonb_build_object(receiver, outcome, type_=JSONB)
    connection.execute(
        update(reports).where(reports.c.report_id == report_id).values(told=reports.c.told.concat(entry))
    )

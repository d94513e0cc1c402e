"""Reports as people are shown them: a list, one of them, and its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import Connection, select

from migrations.schema.reports import report_files, reports
from monitor.storage.views.models.base import Page, Period, Read

# What a file of a report may be called, and what it is by the end of its name.
FILE_NAME = re.compile(r"[a-z0-9_-]{1,60}\.(html|md|json)")
MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "json": "application/json",
}
CadenceName = Literal["daily", "weekly", "asked"]


class ReportFile(Read):
    """A file of a report; GET `/reports/{report_id}/{name}` reads it."""

    name: str
    media_type: str
    size: int = Field(description="bytes, uncompressed")
    sha256: str


class ReportView(Read):
    """A report about a period: by schedule, or asked for."""

    report_id: int
    cadence: CadenceName
    period: Period
    state: Literal["running", "done", "failed"]
    headline: str | None = Field(description="what the period was like, in a sentence")
    error: str | None = Field(description="why there is none, or what is missing from it")
    started_at: datetime
    finished_at: datetime | None
    files: list[ReportFile]


class Packed(Read):
    """A file as it is kept: compressed by gzip."""

    file: ReportFile
    packed: bytes


def reports_page(
    connection: Connection,
    model: str,
    *,
    limit: int,
    cursor: int | None = None,
    cadence: CadenceName | None = None,
) -> Page[ReportView]:
    """Reports newest first, those with a smaller id than `cursor`."""
    query = select(reports).where(reports.c.model == model)
    if cadence is not None:
        query = query.where(reports.c.cadence == cadence)
    if cursor is not None:
        query = query.where(reports.c.report_id < cursor)
    rows = connection.execute(query.order_by(reports.c.report_id.desc()).limit(limit + 1)).mappings().all()
    files = _files(connection, [row["report_id"] for row in rows[:limit]])
    items = [_view(row, files.get(row["report_id"], [])) for row in rows[:limit]]
    return Page(items=items, next_cursor=items[-1].report_id if len(rows) > limit else None)


def report(connection: Connection, model: str, report_id: int) -> ReportView | None:
    """One report, or None."""
    query = select(reports).where(reports.c.model == model, reports.c.report_id == report_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _view(row, _files(connection, [report_id]).get(report_id, []))


def packed(connection: Connection, model: str, report_id: int, name: str) -> Packed | None:
    """One file of a report, or None."""
    row = connection.execute(
        select(report_files)
        .join(reports, reports.c.report_id == report_files.c.report_id)
        .where(reports.c.model == model, reports.c.report_id == report_id, report_files.c.name == name)
    ).first()
    return None if row is None else Packed(file=_file(row), packed=bytes(row.packed))


def _files(connection: Connection, ids: list[int]) -> dict[int, list[ReportFile]]:
    columns = [report_files.c[name] for name in ("report_id", "name", "size", "sha256")]
    query = select(*columns).where(report_files.c.report_id.in_(ids)).order_by(report_files.c.name.desc())
    found: dict[int, list[ReportFile]] = {}
    for row in connection.execute(query):
        found.setdefault(row.report_id, []).append(_file(row))
    return found


def _file(row: Any) -> ReportFile:
    kind = MEDIA_TYPES[row.name.rpartition(".")[2]]
    return ReportFile(name=row.name, media_type=kind, size=row.size, sha256=row.sha256)


def _view(row: Mapping[Any, Any], files: list[ReportFile]) -> ReportView:
    period = Period(start=row["period_start"], end=row["period_end"])
    shown = {name: row[name] for name in ReportView.model_fields if name in row}
    return ReportView.model_validate({**shown, "period": period, "files": files})

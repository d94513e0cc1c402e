"""Findings: the newest of each check, pages of them, and their values over time."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Integer, Select, cast, exists, func, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.sql.elements import ColumnElement

from migrations.schema.monitoring import findings
from monitor.alerts.names import BURN_RATE
from monitor.storage.views.models.base import Page, Period, VerdictName
from monitor.storage.views.models.findings import FindingDetail, FindingView, Point, Series, WindowView

MAX_POINTS = 360
MAX_SERIES = 60
MAX_CHECKS = 200
_WIDTHS = 2**20  # more seconds than the widest window has: a cursor is start and width in one number
_SHOWN = [findings.c[name] for name in FindingView.model_fields]


def newest_checks(
    connection: Connection, model: str, now: datetime, horizon: timedelta, *detectors: str
) -> list[FindingView]:
    """The newest finding of each detector, or of these alone, and modality whose window started within `horizon`."""
    since = now - horizon
    query = (
        select(*_SHOWN)
        .ext(distinct_on(findings.c.detector, findings.c.modality))
        .where(findings.c.model == model, findings.c.window_start >= since, findings.c.window_start <= now)
        # follows from the above, and is what the index of series has
        .where(findings.c.window_end > since)
        .order_by(findings.c.detector, findings.c.modality, findings.c.window_end.desc(), findings.c.finding_id.desc())
        .limit(MAX_CHECKS)
    )
    if detectors:
        query = query.where(findings.c.detector.in_(detectors))
    return [FindingView.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def last_evaluated(connection: Connection, model: str) -> datetime | None:
    """The end of the window that the newest finding judged."""
    # a window judged again, because its data came late, is not the newest one; objectives are judged by another task
    newest = (
        select(findings.c.window_end)
        .where(findings.c.model == model, findings.c.revision == 0, findings.c.detector.not_in(BURN_RATE.values()))
        .order_by(findings.c.finding_id.desc())
    )
    return connection.scalar(newest.limit(1))


def findings_page(
    connection: Connection,
    model: str,
    *,
    limit: int,
    cursor: int | None = None,
    detector: str | None = None,
    modality: str | None = None,
    verdict: VerdictName | None = None,
) -> Page[FindingView]:
    """Findings newest first, those older than `cursor`, narrowed by what is given."""
    query = select(*_SHOWN).where(findings.c.model == model)
    wanted = {"detector": detector, "modality": modality, "verdict": verdict}
    for column, value in wanted.items():
        if value is not None:
            query = query.where(findings.c[column] == value)
    if cursor is not None:
        query = query.where(findings.c.finding_id < cursor)
    rows = connection.execute(query.order_by(findings.c.finding_id.desc()).limit(limit + 1)).mappings().all()
    items = [FindingView.model_validate(dict(row)) for row in rows[:limit]]
    return Page(items=items, next_cursor=items[-1].finding_id if len(rows) > limit else None)


def finding(connection: Connection, finding_id: int) -> FindingDetail | None:
    """One finding with its details, or None."""
    columns = [findings.c[name] for name in FindingDetail.model_fields]
    row = connection.execute(select(*columns).where(findings.c.finding_id == finding_id)).mappings().one_or_none()
    return FindingDetail.model_validate(dict(row)) if row else None


def windows_page(connection: Connection, model: str, *, limit: int, cursor: int | None = None) -> Page[WindowView]:
    """Windows by their start and end, newest first; those before the one that `cursor` names."""
    of = findings.c
    check = func.concat(of.detector, " ", of.modality)
    query = (
        select(
            of.window_start,
            of.window_end,
            func.array_agg(of.verdict).label("verdicts"),
            func.array_agg(check).filter(of.verdict == "drift").label("drifts"),
        )
        .where(of.model == model, ~_judged_again())
        .group_by(of.window_start, of.window_end)
        .order_by(of.window_start.desc(), of.window_end.desc())
    )
    if cursor is not None:
        start, width = divmod(cursor, _WIDTHS)
        since = func.to_timestamp(start)
        query = query.where(tuple_(of.window_start, of.window_end) < tuple_(since, func.to_timestamp(start + width)))
    rows = connection.execute(query.limit(limit + 1)).all()
    items = [
        WindowView(
            window_start=row.window_start,
            window_end=row.window_end,
            verdicts=Counter(row.verdicts),
            drifts=sorted(row.drifts or ()),
        )
        for row in rows[:limit]
    ]
    return Page(items=items, next_cursor=_place(items[-1]) if len(rows) > limit else None)


def _place(window: WindowView) -> int:
    start = int(window.window_start.timestamp())
    return start * _WIDTHS + int(window.window_end.timestamp()) - start


def series(
    connection: Connection, model: str, period: Period, *, detector: str | None = None, modality: str | None = None
) -> list[Series]:
    """Values over time of windows that end in the period, at most MAX_POINTS evenly spread ones of each series.

    Of the windows that share a point the worst verdict is shown, so that thinning never hides a drift.
    """
    query = _thinned(model, period)
    if detector is not None:
        query = query.where(findings.c.detector == detector)
    if modality is not None:
        query = query.where(findings.c.modality == modality)
    found: dict[tuple[str, str], list[Point]] = {}
    for row in connection.execute(query.limit(MAX_POINTS * MAX_SERIES)):
        point = Point(
            at=row.window_end,
            value=row.value,
            threshold=row.threshold,
            low=row.interval_low,
            high=row.interval_high,
            verdict=row.verdict,
            finding_id=row.finding_id,
        )
        found.setdefault((row.detector, row.modality), []).append(point)
    return [Series(detector=name, modality=of, points=points) for (name, of), points in found.items()]


def _thinned(model: str, period: Period) -> Select[*tuple[Any, ...]]:
    bucket = _bucket(period)
    worst = func.array_position(func.string_to_array("drift,insufficient,ok,no_baseline,no_data", ","), _VERDICT)
    return (
        select(*_SHOWN)
        .ext(distinct_on(findings.c.detector, findings.c.modality, bucket))
        .where(
            findings.c.model == model,
            findings.c.window_end > period.start,
            findings.c.window_end <= period.end,
            # windows overlap the period only where they start within it or shortly before: narrows the index scan
            findings.c.window_start >= period.start - (period.end - period.start),
            ~_judged_again(),
        )
        .order_by(findings.c.detector, findings.c.modality, bucket, worst, findings.c.finding_id.desc())
    )


def _judged_again() -> ColumnElement[bool]:
    later = findings.alias()
    same = ("model", "window_start", "window_end", "model_version", "detector", "modality")
    return exists().where(*(later.c[name] == findings.c[name] for name in same), later.c.revision > findings.c.revision)


_VERDICT = findings.c.verdict


def _bucket(period: Period) -> ColumnElement[int]:
    width = (period.end - period.start).total_seconds() / MAX_POINTS
    since = func.extract("epoch", findings.c.window_end - period.start)
    return cast(func.floor(since / width), Integer)

"""A version's baselines: as detectors take them, and as people number, pin and delete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, Select, delete, func, insert, select, update

from migrations.schema import baseline_rows, bins
from migrations.schema.monitoring import EVERY_HOUR, baseline_summaries, baselines, model_versions
from monitor.domain.baseline import in_season
from monitor.domain.window import Reference, Summary, Window
from monitor.errors import BaselineError


def in_use(version: ColumnElement[str] | str) -> ScalarSelect[int]:
    """The id of the baseline that a version is compared with: the pinned one, else its first; null without one."""
    one = baselines.alias()  # its own name, as queries that join baselines use it too
    return (
        select(one.c.baseline_id)
        .where(one.c.model_version == version)
        .order_by(one.c.pinned.desc(), one.c.number)
        .limit(1)
        .scalar_subquery()
    )


def chosen(connection: Connection, model_version: str) -> int | None:
    """The id of the baseline that a version is compared with, None without one."""
    found: int | None = connection.scalar(select(in_use(model_version)))
    return found


def of_version(connection: Connection, model_version: str, hour: int | None = None) -> Reference | None:
    """The baseline in use of a version, as it is at an hour of day (UTC) where it knows hours; None without one.

    Raises BinsError where it cannot be read.
    """
    found = connection.execute(select(baselines).where(baselines.c.baseline_id == in_use(model_version))).first()
    return None if found is None else _reference(connection, found, hour)


def by_id(connection: Connection, baseline_id: int) -> Reference | None:
    """A baseline of whatever version, None where there is none. Raises BinsError where it cannot be read."""
    found = connection.execute(select(baselines).where(baselines.c.baseline_id == baseline_id)).first()
    return None if found is None else _reference(connection, found, None)


def hours_of(connection: Connection, reference: Reference) -> list[Reference]:
    """The baseline by hour of day: one reference for each hour that it knows."""
    rows = connection.execute(
        select(baseline_summaries).where(
            baseline_summaries.c.baseline_id == reference.baseline_id, baseline_summaries.c.hour != EVERY_HOUR
        )
    )
    hours: dict[int, dict[str, Summary]] = {}
    for row in rows:
        hours.setdefault(row.hour, {})[row.modality] = _summary(row)
    return [in_season(reference, hour, hours[hour]) for hour in sorted(hours)]


def _reference(connection: Connection, found: Row[Any], hour: int | None) -> Reference:
    wanted = [EVERY_HOUR] if hour is None else [EVERY_HOUR, hour]
    rows = connection.execute(
        select(baseline_summaries)
        .where(baseline_summaries.c.baseline_id == found.baseline_id, baseline_summaries.c.hour.in_(wanted))
        .order_by(baseline_summaries.c.modality)
    ).all()
    parts = [_summary(row) for row in rows if row.hour == EVERY_HOUR]
    of_hour = {row.modality: _summary(row) for row in rows if row.hour != EVERY_HOUR}
    learnt = found.thresholds.get("effects", {})
    reference = Reference.from_facts(found.baseline_id, found.model_version, found.facts, parts, learnt)
    return in_season(reference, hour, of_hour) if hour is not None and of_hour else reference


def _summary(row: Row[Any]) -> Summary:
    return Summary(row.modality, row.counts, bins.load(row.bins), row.encoder_fingerprint, row.totals)


@dataclass(frozen=True, slots=True)
class Listed:
    """A baseline without its bins. `used` is that of the version's baselines which windows are compared with."""

    baseline_id: int
    model_version: str
    number: int
    origin: str
    pinned: bool
    used: bool
    period: Window | None
    facts: Mapping[str, Any]
    thresholds: Mapping[str, Any]
    created_by: str
    created_at: datetime


def listed(connection: Connection, model: str, model_version: str | None = None) -> list[Listed]:
    """The baselines of a model's versions, or of one version, newest version first, by number."""
    query = _of_model(model).order_by(model_versions.c.created_at.desc(), model_versions.c.version, baselines.c.number)
    if model_version is not None:
        query = query.where(baselines.c.model_version == model_version)
    return [_listed(row) for row in connection.execute(query)]


def newest(connection: Connection, model: str, *, limit: int, before: int | None = None) -> list[Listed]:
    """The baselines of a model's versions that were made last, newest first: those with a smaller id than `before`."""
    query = _of_model(model).order_by(baselines.c.baseline_id.desc()).limit(limit)
    if before is not None:
        query = query.where(baselines.c.baseline_id < before)
    return [_listed(row) for row in connection.execute(query)]


def missing(connection: Connection, model: str, ids: Sequence[int]) -> list[int]:
    """Those of the ids that are no baseline of the model's versions."""
    query = _of_model(model).where(baselines.c.baseline_id.in_(ids)).with_only_columns(baselines.c.baseline_id)
    known = set(connection.scalars(query))
    return [each for each in ids if each not in known]


def _of_model(model: str) -> Select[Any]:
    return (
        select(baselines, in_use(baselines.c.model_version).label("in_use"))
        .join(model_versions, model_versions.c.version == baselines.c.model_version)
        .where(model_versions.c.model == model)
    )


def _listed(row: Row[Any]) -> Listed:
    return Listed(
        row.baseline_id,
        row.model_version,
        row.number,
        row.origin,
        row.pinned,
        row.baseline_id == row.in_use,
        None if row.period_start is None else Window(row.period_start, row.period_end),
        row.facts,
        row.thresholds,
        row.created_by,
        row.created_at,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A baseline to be kept: of the whole day, and by hour where it has hours."""

    model_version: str
    period: Window
    facts: Mapping[str, Any]
    summaries: Mapping[str, Summary]
    hours: Mapping[int, Mapping[str, Summary]]


def create(connection: Connection, made: Made, *, actor: str, now: datetime) -> tuple[int, int]:
    """Keep a baseline made from traffic; its id and its number, the next of its version.

    Raises BaselineError where there is no such version.
    """
    _lock(connection, made.model_version)
    row = connection.execute(
        insert(baselines)
        .values(
            model_version=made.model_version,
            number=baseline_rows.take_number(connection, made.model_version),
            origin="period",
            period_start=made.period.start,
            period_end=made.period.end,
            facts=dict(made.facts),
            created_by=actor,
            created_at=now,
        )
        .returning(baselines.c.baseline_id, baselines.c.number)
    ).one()
    rows = [
        {
            "baseline_id": row.baseline_id,
            "modality": name,
            "hour": hour,
            "encoder_fingerprint": each.fingerprint,
            "counts": dict(each.counts),
            "bins": bins.dump(each.bins),
            "totals": dict(each.totals),
        }
        for hour, summaries in {EVERY_HOUR: made.summaries, **made.hours}.items()
        for name, each in summaries.items()
    ]
    connection.execute(insert(baseline_summaries), rows)
    return row.baseline_id, row.number


def keep_thresholds(connection: Connection, baseline_id: int, learnt: Mapping[str, Any]) -> bool:
    """Keep what a baseline taught, once; False where it had been kept."""
    kept = connection.execute(
        update(baselines)
        .where(baselines.c.baseline_id == baseline_id, baselines.c.thresholds == {})
        .values(thresholds=dict(learnt))
    )
    return kept.rowcount == 1


def untaught(connection: Connection, model_version: str) -> bool:
    """Whether the baseline in use of a version has not been learnt from."""
    query = select(baselines.c.thresholds).where(baselines.c.baseline_id == in_use(model_version))
    return connection.scalar(query) == {}


def pin(connection: Connection, version: str, number: int, *, actor: str, reason: str, now: datetime) -> None:
    """Compare with this one from now on. Pins of one version take turns; the later holds. Audited.

    Raises BaselineError where there is no such baseline.
    """
    _lock(connection, version)
    found = _numbered(connection, version, number)
    before = baseline_rows.pin(connection, version, found)
    baseline_rows.audit(
        connection,
        "baseline_pinned",
        version,
        number,
        actor=actor,
        now=now,
        details={"reason": reason, "pinned_before": before},
    )


def unpin(connection: Connection, version: str, *, actor: str, reason: str, now: datetime) -> int:
    """Compare with the version's first baseline again; the number of the one that was pinned. Audited.

    Raises BaselineError where none is pinned.
    """
    _lock(connection, version)
    before = baseline_rows.pin(connection, version, None)
    if before is None:
        raise BaselineError(f"no baseline of {version} is pinned")
    baseline_rows.audit(
        connection, "baseline_unpinned", version, before, actor=actor, now=now, details={"reason": reason}
    )
    return before


def drop(connection: Connection, version: str, number: int, *, actor: str, reason: str, now: datetime) -> None:
    """Delete a baseline. Audited. Raises BaselineError where it is pinned, in use, the only one, or not there."""
    _lock(connection, version)
    found = _numbered(connection, version, number)
    count = connection.scalar(select(func.count()).where(baselines.c.model_version == version))
    if count == 1:
        raise BaselineError(f"baseline {number} is the only one of {version}: without it nothing could be compared")
    if chosen(connection, version) == found:
        raise BaselineError(f"{version} is compared with baseline {number}: pin another one first")
    connection.execute(delete(baselines).where(baselines.c.baseline_id == found))
    baseline_rows.audit(
        connection, "baseline_deleted", version, number, actor=actor, now=now, details={"reason": reason}
    )


def _lock(connection: Connection, version: str) -> None:
    """Changes of one version's baselines take turns. Raises BaselineError where there is no such version."""
    if not baseline_rows.lock(connection, version):
        raise BaselineError(f"there is no model version {version!r}")


def _numbered(connection: Connection, version: str, number: int) -> int:
    query = select(baselines.c.baseline_id).where(baselines.c.model_version == version, baselines.c.number == number)
    found: int | None = connection.scalar(query)
    if found is None:
        raise BaselineError(f"{version} has no baseline {number}")
    return found


def audit_made(
    connection: Connection, version: str, number: int, *, actor: str, now: datetime, details: Mapping[str, Any]
) -> None:
    """Tell the audit log of a new baseline."""
    baseline_rows.audit(connection, "baseline_made", version, number, actor=actor, now=now, details=details)

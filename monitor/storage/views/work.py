"""Alerts, jobs, the champion, and the audit log."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Connection, Label, Select, case, func, select

from migrations.schema.monitoring import (
    EVERY_HOUR,
    alerts,
    audit_log,
    baseline_summaries,
    baselines,
    findings,
    jobs,
    model_aliases,
    model_versions,
    silences,
)
from monitor.storage.baselines import in_use
from monitor.storage.views.models.base import Page, Period
from monitor.storage.views.models.champion import Champion
from monitor.storage.views.models.work import AlertView, EventView, JobView

MAX_OPEN = 100
AlertState = Literal["open", "pending", "firing", "resolved", "any"]
ACTIVE = ("queued", "running", "trained")


def champion(connection: Connection, model: str) -> Champion | None:
    """The version that answers, with its baseline, or None before a worker has registered one."""
    version = model_versions.c
    row = connection.execute(
        select(
            version.version,
            version.family,
            model_aliases.c.updated_at.label("since"),
            version.class_names,
            version.modalities,
            baselines.c.baseline_id,
            baselines.c.origin.label("baseline_origin"),
            baselines.c.facts.label("baseline_facts"),
            baselines.c.number.label("baseline_number"),
            baselines.c.pinned.label("baseline_pinned"),
            baselines.c.period_start,
            baselines.c.period_end,
            baselines.c.thresholds,
            _hours(),
        )
        .select_from(model_aliases)
        .join(model_versions, version.version == model_aliases.c.version)
        .outerjoin(baselines, baselines.c.baseline_id == in_use(version.version))
        .where(model_aliases.c.model == model, model_aliases.c.alias == "champion")
    )
    found = row.mappings().one_or_none()
    if found is None:
        return None
    start, end, learnt = found["period_start"], found["period_end"], found["thresholds"]
    period = None if start is None else Period(start=start, end=end)
    shown = {name: found[name] for name in Champion.model_fields if name in found}
    return Champion.model_validate(
        {
            **shown,
            "baseline_facts": shown["baseline_facts"] or {},
            "baseline_period": period,
            "baseline_thresholds_learnt": None if learnt is None else bool(learnt.get("effects")),
        }
    )


def _hours() -> Label[int]:
    """How many hours of day the baseline of a row has."""
    of_hour = baseline_summaries.c
    query = select(func.count(of_hour.hour.distinct()))
    known = query.where(of_hour.baseline_id == baselines.c.baseline_id, of_hour.hour != EVERY_HOUR)
    return known.correlate(baselines).scalar_subquery().label("baseline_hours")


def open_alerts(connection: Connection, model: str) -> list[AlertView]:
    """Pending and firing alerts: firing before pending, causes before what they explain, pages first, oldest first."""
    query = (
        alert_rows(model)
        .where(alerts.c.state != "resolved")
        .order_by(
            case((alerts.c.state == "firing", 0), else_=1),
            case((alerts.c.inhibited_by.is_(None), 0), else_=1),
            case((alerts.c.severity == "page", 0), else_=1),
            alerts.c.pending_since,
            alerts.c.alert_id,
        )
        .limit(MAX_OPEN)
    )
    return [AlertView.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def alerts_page(
    connection: Connection, model: str, *, state: AlertState, limit: int, cursor: int | None = None
) -> Page[AlertView]:
    """Alerts newest first, those with a smaller id than `cursor`."""
    query = alert_rows(model)
    if state == "open":
        query = query.where(alerts.c.state != "resolved")
    elif state != "any":
        query = query.where(alerts.c.state == state)
    if cursor is not None:
        query = query.where(alerts.c.alert_id < cursor)
    rows = connection.execute(query.order_by(alerts.c.alert_id.desc()).limit(limit + 1)).mappings().all()
    items = [AlertView.model_validate(dict(row)) for row in rows[:limit]]
    return Page(items=items, next_cursor=items[-1].alert_id if len(rows) > limit else None)


def alerts_of_period(connection: Connection, model: str, period: Period, limit: int) -> list[AlertView]:
    """Alerts that fired, or still did, in the period: pages first, then the longest."""
    until = func.least(func.coalesce(alerts.c.resolved_at, period.end), period.end)
    query = (
        alert_rows(model)
        .where(
            alerts.c.firing_since < period.end,
            (alerts.c.resolved_at.is_(None)) | (alerts.c.resolved_at >= period.start),
        )
        .order_by(
            case((alerts.c.severity == "page", 0), else_=1), (until - alerts.c.firing_since).desc(), alerts.c.alert_id
        )
        .limit(limit)
    )
    return [AlertView.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def alert_rows(model: str) -> Select[*tuple[Any, ...]]:
    """Alerts of a model as they are shown, with what silences them and the detector that they come of."""
    shown = [alerts.c[name] for name in AlertView.model_fields if name not in ("since", "silenced", "detector")]
    silenced = func.jsonb_build_object(
        *("silence_id", silences.c.silence_id, "until", silences.c.ends_at),
        *("by", silences.c.owner, "reason", silences.c.reason),
    )
    return (
        select(
            *shown,
            alerts.c.pending_since.label("since"),
            case((silences.c.silence_id.is_not(None), silenced)).label("silenced"),
            findings.c.detector,
        )
        .select_from(alerts)
        .outerjoin(silences, (silences.c.silence_id == alerts.c.silenced_by) & silences.c.ended_at.is_(None))
        .outerjoin(findings, findings.c.finding_id == alerts.c.finding_id)
        .where(alerts.c.labels["model"].astext == model)
    )


def alert(connection: Connection, model: str, alert_id: int) -> AlertView | None:
    """One alert of the model, or None."""
    row = connection.execute(alert_rows(model).where(alerts.c.alert_id == alert_id)).mappings().one_or_none()
    return AlertView.model_validate(dict(row)) if row else None


def firing_alerts(connection: Connection, model: str) -> int:
    """How many alerts fire that no other one explains."""
    open_ones = select(func.count()).where(
        alerts.c.labels["model"].astext == model, alerts.c.state == "firing", alerts.c.inhibited_by.is_(None)
    )
    return connection.scalar(open_ones) or 0


def active_job(connection: Connection, model: str) -> JobView | None:
    """The job under way; the schema allows one for each model."""
    query = _jobs(model).where(jobs.c.state.in_(ACTIVE)).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    return JobView.model_validate(dict(row)) if row else None


def jobs_page(connection: Connection, model: str, *, limit: int, cursor: int | None = None) -> Page[JobView]:
    """Jobs newest first, those with a smaller id than `cursor`."""
    query = _jobs(model)
    if cursor is not None:
        query = query.where(jobs.c.job_id < cursor)
    rows = connection.execute(query.order_by(jobs.c.job_id.desc()).limit(limit + 1)).mappings().all()
    items = [JobView.model_validate(dict(row)) for row in rows[:limit]]
    return Page(items=items, next_cursor=items[-1].job_id if len(rows) > limit else None)


def jobs_of_period(connection: Connection, model: str, period: Period, limit: int) -> list[JobView]:
    """Jobs that were asked for, or ended, in the period, newest first."""
    asked = (jobs.c.created_at >= period.start) & (jobs.c.created_at < period.end)
    ended = (jobs.c.finished_at >= period.start) & (jobs.c.finished_at < period.end)
    query = _jobs(model).where(asked | ended).order_by(jobs.c.job_id.desc()).limit(limit)
    return [JobView.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def job(connection: Connection, model: str, job_id: int) -> JobView | None:
    """One job, or None."""
    row = connection.execute(_jobs(model).where(jobs.c.job_id == job_id)).mappings().one_or_none()
    return JobView.model_validate(dict(row)) if row else None


def _jobs(model: str) -> Select[*tuple[Any, ...]]:
    return select(*[jobs.c[name] for name in JobView.model_fields]).where(jobs.c.model == model)


def history_page(connection: Connection, *, limit: int, cursor: int | None = None) -> Page[EventView]:
    """The audit log newest first, rows with a smaller id than `cursor`."""
    query = select(*[audit_log.c[name] for name in EventView.model_fields])
    if cursor is not None:
        query = query.where(audit_log.c.audit_id < cursor)
    rows = connection.execute(query.order_by(audit_log.c.audit_id.desc()).limit(limit + 1)).mappings().all()
    items = [EventView.model_validate(dict(row)) for row in rows[:limit]]
    return Page(items=items, next_cursor=items[-1].audit_id if len(rows) > limit else None)

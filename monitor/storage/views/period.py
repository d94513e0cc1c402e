"""What happened in a period, for reports: verdicts, incidents, objectives, retrains. Every list is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, Subquery, exists, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from migrations.schema.monitoring import audit_log, findings, model_versions
from migrations.schema.slos import slo_status
from monitor.alerts.names import BURN_RATE
from monitor.domain.slo import BUDGET, budget_left
from monitor.storage import slos
from monitor.storage.models import PROMOTED, ROLLED_BACK
from monitor.storage.views.models.base import Period, Read, VerdictName
from monitor.storage.views.models.work import EventView

MOST_CHECKS, MOST_EVENTS = 200, 20
# Objectives' counts are kept for their budget's time and this much longer.
COUNTS_KEPT = BUDGET + timedelta(days=1)


class CheckOver(Read):
    """One detector on one modality over a period: windows by verdict, and what was said last."""

    detector: str
    modality: str
    windows: int
    verdicts: dict[VerdictName, int]
    value: float | None
    threshold: float | None
    verdict: VerdictName
    explanation: str
    drift_since: datetime | None
    drift_until: datetime | None
    drift_explanation: str | None

    @property
    def drifted(self) -> int:
        """Windows that drifted."""
        return self.verdicts.get("drift", 0)

    @property
    def judged(self) -> int:
        """Windows of which it could be told whether they drift."""
        return self.drifted + self.verdicts.get("ok", 0)


class ObjectiveOver(Read):
    """An objective over a period, and what is left of its 30-day budget at the period's end."""

    slo: str
    subject: str
    target: float
    good: int | None
    valid: int | None
    budget_left: float | None
    text: str

    @property
    def share(self) -> float | None:
        """Share of good events; None without any."""
        return self.good / self.valid if self.good is not None and self.valid else None


def checks_over(connection: Connection, model: str, period: Period) -> list[CheckOver]:
    """Every check whose windows ended in the period, those that drifted most first."""
    of = _newest_revisions(model, period).subquery()
    drifts = of.c.verdict == "drift"
    names = ("ok", "drift", "insufficient", "no_data", "no_baseline")
    rows = connection.execute(
        select(
            of.c.detector,
            of.c.modality,
            func.count().label("windows"),
            *(func.count().filter(of.c.verdict == name).label(name) for name in names),
            func.min(of.c.window_end).filter(drifts).label("drift_since"),
            func.max(of.c.window_end).filter(drifts).label("drift_until"),
        )
        .group_by(of.c.detector, of.c.modality)
        .order_by(func.count().filter(drifts).desc(), of.c.detector, of.c.modality)
        .limit(MOST_CHECKS)
    ).all()
    last, drift = _last(connection, of), _last(connection, of, only="drift")
    found = []
    for row in rows:
        kept, told = last[row.detector, row.modality], drift.get((row.detector, row.modality))
        verdicts = {name: getattr(row, name) for name in names if getattr(row, name)}
        shown = {name: getattr(row, name) for name in CheckOver.model_fields if hasattr(row, name)}
        found.append(
            CheckOver.model_validate(
                {**kept, **shown, "verdicts": verdicts, "drift_explanation": told["explanation"] if told else None}
            )
        )
    return found


def _newest_revisions(model: str, period: Period) -> Select[*tuple[Any, ...]]:
    """Findings of windows that ended in the period, each window as it was judged last. Objectives have their own."""
    later = findings.alias()
    same = ("window_start", "window_end", "model_version", "detector", "modality")
    again = exists().where(
        *(later.c[name] == findings.c[name] for name in same), later.c.revision > findings.c.revision
    )
    return select(findings).where(
        findings.c.model == model,
        findings.c.window_end > period.start,
        findings.c.window_end <= period.end,
        # no window is longer than a week: narrows the index scan
        findings.c.window_start >= period.start - timedelta(days=7),
        findings.c.detector.not_in(BURN_RATE.values()),
        ~again,
    )


def _last(connection: Connection, of: Subquery, only: str | None = None) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The newest finding of each check, or the newest with one verdict."""
    columns = ("detector", "modality", "value", "threshold", "verdict", "explanation")
    query = (
        select(*(of.c[name] for name in columns))
        .ext(distinct_on(of.c.detector, of.c.modality))
        .order_by(of.c.detector, of.c.modality, of.c.window_end.desc(), of.c.finding_id.desc())
    )
    if only is not None:
        query = query.where(of.c.verdict == only)
    return {(row["detector"], row["modality"]): dict(row) for row in connection.execute(query).mappings()}


def objectives_over(connection: Connection, model: str, period: Period, now: datetime) -> list[ObjectiveOver]:
    """Objectives that are held now, over the period; without counts where those are kept no more."""
    rows = connection.execute(select(slo_status).where(slo_status.c.model == model).order_by(slo_status.c.slo)).all()
    length = period.end - period.start
    counts = slos.sums(connection, model, {row.sli for row in rows}, period.end, sorted({length, BUDGET}))
    kept = now - COUNTS_KEPT
    found = []
    for row in rows:
        over = counts[row.sli][length] if period.start >= kept else None
        month = counts[row.sli][BUDGET] if period.end - BUDGET >= kept else None
        found.append(
            ObjectiveOver(
                slo=row.slo,
                subject=row.state["subject"],
                target=row.state["target"],
                good=None if over is None else over.good,
                valid=None if over is None else over.valid,
                budget_left=None if month is None else budget_left(month, row.state["target"]),
                text=row.state["text"],
            )
        )
    return found


def champions_over(connection: Connection, model: str, period: Period) -> list[EventView]:
    """Promotions of the model's versions and ways back, newest first."""
    versions = select(model_versions.c.version).where(model_versions.c.model == model)
    query = (
        select(*[audit_log.c[name] for name in EventView.model_fields])
        .where(
            audit_log.c.action.in_((PROMOTED, ROLLED_BACK)),
            audit_log.c.subject.in_(versions),
            audit_log.c.at >= period.start,
            audit_log.c.at < period.end,
        )
        .order_by(audit_log.c.audit_id.desc())
        .limit(MOST_EVENTS)
    )
    return [EventView.model_validate(dict(row)) for row in connection.execute(query).mappings()]

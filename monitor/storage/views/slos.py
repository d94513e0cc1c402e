"""What the model is held to: objectives as last judged, and figures that have a target of their own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from migrations.schema.monitoring import findings
from migrations.schema.slos import slo_status
from monitor.domain import durations
from monitor.domain.slo import NOW
from monitor.storage.views.models.objectives import Slo, Slos, Trend

BEFORE = timedelta(days=1)


def slos(connection: Connection, model: str, targets: Mapping[str, float | None], now: datetime) -> Slos:
    """Objectives, worst first; and of each detector in `targets` its figure, held to that target."""
    rows = connection.execute(select(slo_status).where(slo_status.c.model == model).order_by(slo_status.c.slo))
    held = [_slo(row.slo, row.evaluated_at, row.state) for row in rows]
    rank = {"page": 0, "ticket": 1}
    return Slos(
        objectives=sorted(held, key=lambda each: rank.get(each.firing or "", 2)),
        trends=[_trend(connection, model, name, target, now) for name, target in targets.items()],
    )


def _slo(name: str, at: datetime, state: Mapping[str, Any]) -> Slo:
    lately = next((each for each in state["windows"] if each["window"] == durations.short(NOW)), None)
    share = lately["good"] / lately["valid"] if lately and lately["valid"] else None
    return Slo.model_validate({**state, "slo": name, "share": share, "evaluated_at": at})


def _trend(connection: Connection, model: str, name: str, target: float | None, now: datetime) -> Trend:
    newest = _newest(connection, model, name, now)
    before = _newest(connection, model, name, now - BEFORE)
    return Trend(
        name=name,
        value=newest.value if newest else None,
        before=before.value if before else None,
        target=target,
        verdict=newest.verdict if newest else "no_data",
        at=newest.window_end if newest else None,
    )


def _newest(connection: Connection, model: str, detector: str, until: datetime) -> Row[float, str, datetime] | None:
    """The newest finding with a value of a window that ended by then, and not more than a day before."""
    return connection.execute(
        select(findings.c.value, findings.c.verdict, findings.c.window_end)
        .where(
            findings.c.model == model,
            findings.c.detector == detector,
            findings.c.window_end <= until,
            findings.c.window_end > until - BEFORE,
            findings.c.value.is_not(None),
        )
        .order_by(findings.c.window_end.desc(), findings.c.finding_id.desc())
        .limit(1)
    ).first()

"""Baselines as they are shown."""

from __future__ import annotations

from sqlalchemy import Connection

from monitor.storage import baselines
from monitor.storage.views.models import BaselineView, Period


def baselines_of(connection: Connection, model: str) -> list[BaselineView]:
    """The baselines of every version of a model, the newest version first, by number."""
    return [
        BaselineView(
            baseline_id=each.baseline_id,
            model_version=each.model_version,
            number=each.number,
            origin=each.origin,
            pinned=each.pinned,
            used=each.used,
            period=None if each.period is None else Period(start=each.period.start, end=each.period.end),
            accuracy=each.facts.get("accuracy"),
            thresholds_learnt=bool(each.thresholds.get("effects")),
            created_by=each.created_by,
            created_at=each.created_at,
        )
        for each in baselines.listed(connection, model)
    ]

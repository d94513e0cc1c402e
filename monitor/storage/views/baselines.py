"""Baselines as they are shown."""

from __future__ import annotations

from sqlalchemy import Connection

from monitor.storage import baselines
from monitor.storage.views.models.base import Page, Period
from monitor.storage.views.models.champion import BaselineView


def baselines_page(connection: Connection, model: str, *, limit: int, cursor: int | None = None) -> Page[BaselineView]:
    """The baselines of every version of a model, newest first, those with a smaller id than `cursor`."""
    found = baselines.newest(connection, model, limit=limit + 1, before=cursor)
    items = [_view(each) for each in found[:limit]]
    return Page(items=items, next_cursor=items[-1].baseline_id if len(found) > limit else None)


def _view(each: baselines.Listed) -> BaselineView:
    return BaselineView(
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

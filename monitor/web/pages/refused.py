"""Refused messages: why, how many and when, and where the newest stand in their topic."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from monitor.api.context import MAX_MINUTES, Name
from monitor.storage.views.traffic import dead_letters_by_reason, newest_refused, refused_over_time
from monitor.web import plots
from monitor.web.page import At

BUCKETS = 96
CHOICES = {60: "1 h", 1440: "24 h", 10_080: "7 d"}
router = APIRouter(include_in_schema=False)


@router.get("/refused")
def refused(desk: At, minutes: Annotated[int, Query(ge=1, le=MAX_MINUTES)] = 1440, reason: Name = None) -> HTMLResponse:
    """Refused messages of the minutes that end now, by reason; the newest of one `reason` where it is given."""
    period = desk.shown.period(minutes)
    return desk.render(
        "refused.html",
        here="/refused",
        title="Refused messages",
        ranges=CHOICES,
        minutes=minutes,
        label=CHOICES.get(minutes, f"{minutes} min"),
        letters=dead_letters_by_reason(desk.connection, period),
        bars=plots.count_bars(refused_over_time(desk.connection, period, BUCKETS), period, BUCKETS),
        width=plots.TIMELINE_WIDTH,
        height=plots.STRIP_HEIGHT,
        newest=newest_refused(desk.connection, period, reason),
        reason=reason,
    )

"""Each input over time: in which state requests brought it, and by which route they were answered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from monitor.storage.views.traffic import MAX_BUCKETS, traffic_series
from monitor.web import plots
from monitor.web.page import RANGES, At, first_range

# A week of slots takes longer to add up than a page may.
LONGEST = 1440
CHOICES = {minutes: label for minutes, label in RANGES.items() if minutes <= LONGEST}
router = APIRouter(include_in_schema=False)


@router.get("/modalities")
def modalities(desk: At, minutes: Annotated[int | None, Query(ge=1, le=LONGEST)] = None) -> HTMLResponse:
    """Timelines of every modality over the minutes that end now."""
    shown = desk.shown
    chosen = minutes or min(first_range(shown.timing.hop_seconds), LONGEST)
    period = shown.aligned(chosen)
    traffic = traffic_series(desk.connection, shown.model, period, shown.timing.slot_seconds, MAX_BUCKETS)
    facts = shown.facts(desk.connection)
    names = [each.modality for each in facts.modalities]
    names += sorted({name for point in traffic.points for name in point.modalities} - set(names))
    return desk.render(
        "modalities.html",
        here="/modalities",
        title="Modalities",
        ranges=CHOICES,
        minutes=chosen,
        label=CHOICES.get(chosen, f"{chosen} min"),
        period=period,
        bucket_seconds=traffic.bucket_seconds,
        by_name={each.modality: each for each in facts.modalities},
        timelines={name: plots.status_timeline(traffic, name, period) for name in names},
        routes=plots.route_timeline(traffic, period),
        width=plots.TIMELINE_WIDTH,
        height=plots.TIMELINE_HEIGHT,
    )

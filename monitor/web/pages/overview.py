"""The first page: how the model is in a sentence, what is wrong now, its inputs and its objectives."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from monitor.storage.views.rollouts import open_rollout
from monitor.storage.views.slos import slos
from monitor.storage.views.traffic import traffic_series
from monitor.web import plots
from monitor.web.compared import compared_with
from monitor.web.page import RANGES, At, first_range
from monitor.web.wrong import troubles

STRIP_BUCKETS = 90
router = APIRouter(include_in_schema=False)


@router.get("/")
def overview(desk: At) -> HTMLResponse:
    """How the model is now. A browser that keeps it open asks again and takes over the parts that changed."""
    shown, connection = desk.shown, desk.connection
    found = shown.overview(connection)
    minutes = first_range(shown.timing.hop_seconds)
    period = shown.aligned(minutes)
    traffic = traffic_series(connection, shown.model, period, shown.timing.slot_seconds, STRIP_BUCKETS)
    rollout = open_rollout(connection, shown.model)
    return desk.render(
        "overview.html",
        here="/",
        title=shown.model,
        o=found,
        troubles=troubles(found, rollout, found.now),
        rollout=rollout,
        range=RANGES[minutes],
        strips={
            each.modality: plots.presence_cells(traffic, each.modality, period, shown.targets.availability)
            for each in found.modalities
        },
        strip_width=plots.STRIP_WIDTH,
        strip_height=plots.STRIP_HEIGHT,
        calibration=shown.calibration(connection, shown.targets.label_minutes),
        slos=slos(connection, shown.model, shown.targets.trends, found.now),
        compared=compared_with(found.champion, found.now) if found.champion else "",
    )

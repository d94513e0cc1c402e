"""The status page: rendered here, made live by the same request repeated from the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from sqlalchemy import Connection

from monitor.api.access import READS
from monitor.api.context import Context, Reading, Shown
from monitor.domain.progress import in_words
from monitor.storage.views.promises import promises
from monitor.storage.views.retraining import decisions_page, queue
from monitor.storage.views.slos import slos
from monitor.storage.views.traffic import dead_letters_by_reason, traffic_series
from monitor.storage.views.work import alerts_page, history_page, jobs_page
from monitor.web import plots, words
from monitor.web.compared import compared_with

HERE = Path(__file__).parent
# How far back plots may look, in minutes; the first that holds so many windows is shown at first.
RANGES = {15: "15 min", 60: "1 h", 360: "6 h", 1440: "24 h", 10_080: "7 d"}
WINDOWS_AT_FIRST = 120
STRIP_BUCKETS = 90
DEAD_LETTER_MINUTES = 24 * 60
RECENT = 12
router = APIRouter(include_in_schema=False, dependencies=READS)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["words"] = words
    environment.globals["progress"] = in_words
    environment.filters.update(
        share=words.share, number=words.number, count=words.count, modality=words.modality, listed=words.listed
    )
    return environment


_templates = _environment()


@router.get("/")
def status_page(shown: Shown, connection: Reading) -> HTMLResponse:
    """The whole page. A browser that keeps it open asks for it again and takes over the parts that changed."""
    return HTMLResponse(_templates.get_template("status.html").render(page_data(shown, connection)))


def page_data(shown: Context, connection: Connection) -> dict[str, Any]:
    """All that the template shows."""
    overview = shown.overview(connection)
    minutes = first_range(shown.timing.hop_seconds)
    period = shown.aligned(minutes)
    traffic = traffic_series(connection, shown.model, period, shown.timing.slot_seconds, STRIP_BUCKETS)
    calibration = shown.calibration(connection, shown.targets.label_minutes)
    recent = alerts_page(connection, shown.model, state="resolved", limit=RECENT)
    return {
        "o": overview,
        "now": overview.now,
        "targets": shown.targets,
        "version": shown.version,
        "ranges": RANGES,
        "minutes": minutes,
        "vocabulary": words.vocabulary(),
        "strips": {
            each.modality: plots.presence_cells(traffic, each.modality, period, shown.targets.availability)
            for each in overview.modalities
        },
        "strip_width": plots.STRIP_WIDTH,
        "strip_height": plots.STRIP_HEIGHT,
        "calibration": calibration,
        "floor": plots.reliability_floor(calibration.bins),
        "marks": plots.reliability_marks(calibration.bins, plots.reliability_floor(calibration.bins)),
        "side": plots.SIDE,
        "resolved": recent.items,
        "slos": slos(connection, shown.model, shown.targets.trends, overview.now),
        "compared": compared_with(overview.champion, overview.now) if overview.champion else "",
        "promises": promises(connection, shown.model, overview.now),
        "decisions": decisions_page(connection, shown.model, limit=1).items,
        "queue": queue(connection, shown.model, overview.now, limit=1),
        "jobs": jobs_page(connection, shown.model, limit=RECENT).items,
        "history": history_page(connection, limit=RECENT).items,
        "dead_letters": dead_letters_by_reason(connection, shown.period(DEAD_LETTER_MINUTES)),
    }


def first_range(hop_seconds: int) -> int:
    """Minutes that plots show at first."""
    wanted = WINDOWS_AT_FIRST * hop_seconds / 60
    return next((minutes for minutes in RANGES if minutes >= wanted), max(RANGES))


def install(app: FastAPI) -> None:
    """Serve the page and its static files."""
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

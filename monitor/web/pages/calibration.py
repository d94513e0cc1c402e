"""Whether confidence means what it says: by labels where there are some, by the baseline's where there are none."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from monitor.api.context import MAX_MINUTES
from monitor.storage.views.findings import newest_checks
from monitor.storage.views.models.findings import FindingDetail
from monitor.storage.views.windows import details_of
from monitor.storage.views.work import champion
from monitor.web import moved, plots
from monitor.web.page import RANGES, At, Desk

CONFIDENCE, ESTIMATE, CALIBRATION = "confidence_drift", "estimated_accuracy", "calibration"
LABELS_OF = {60: "1 h", 1440: "24 h", 10_080: "7 d"}
router = APIRouter(include_in_schema=False)


@router.get("/calibration")
def calibration(desk: At, minutes: Annotated[int | None, Query(ge=1, le=MAX_MINUTES)] = None) -> HTMLResponse:
    """The reliability diagram of labels received in the minutes that end now, and what is known without labels."""
    shown = desk.shown
    chosen = minutes or shown.targets.label_minutes
    found = shown.calibration(desk.connection, chosen)
    floor = plots.reliability_floor(found.bins)
    newest = _newest(desk)
    answering = champion(desk.connection, shown.model)
    expected = plots.expected_bins(answering.baseline_facts if answering else {}, newest.get(CONFIDENCE))
    expected_floor = plots.reliability_floor(expected)
    groups = newest[CALIBRATION].details.get("classes") if CALIBRATION in newest else None
    return desk.render(
        "calibration.html",
        here="/calibration",
        title="Calibration",
        ranges=LABELS_OF,
        minutes=chosen,
        label=LABELS_OF.get(chosen) or RANGES.get(chosen, f"{chosen} min"),
        calibration=found,
        floor=floor,
        marks=plots.reliability_marks(found.bins, floor),
        expected=expected,
        expected_floor=expected_floor,
        expected_marks=plots.reliability_marks(expected, expected_floor),
        estimate=newest.get(ESTIMATE),
        confidence=newest.get(CONFIDENCE),
        histogram=plots.confidence_bars(newest.get(CONFIDENCE)),
        groups=groups or {},
        tables=moved.moved(newest[CONFIDENCE]) if CONFIDENCE in newest else [],
        side=plots.SIDE,
    )


def _newest(desk: Desk) -> dict[str, FindingDetail]:
    """The newest finding of each check that this page tells of, within a day, by detector."""
    shown = desk.shown
    wanted = (CONFIDENCE, ESTIMATE, CALIBRATION)
    checks = newest_checks(desk.connection, shown.model, shown.clock.now(), timedelta(days=1), *wanted)
    return {each.detector: each for each in details_of(desk.connection, [each.finding_id for each in checks])}

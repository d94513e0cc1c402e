"""One finding: its test in plain words, its numbers, what moved, and where it stands in its series."""

from __future__ import annotations

import json
from datetime import timedelta

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from monitor.api.context import MAX_MINUTES
from monitor.storage.views.alerts import alerts_of
from monitor.storage.views.findings import finding
from monitor.storage.views.windows import neighbours
from monitor.storage.views.work import champion
from monitor.web import explained, methods, moved, words
from monitor.web.acts import Id
from monitor.web.page import At

# Windows on either side of the finding that its plot shows.
AROUND = 30
router = APIRouter(include_in_schema=False)


@router.get("/findings/{finding_id}")
def one_finding(desk: At, finding_id: Id) -> HTMLResponse:
    """What was asked, how it was tested, what came of it."""
    shown, connection = desk.shown, desk.connection
    found = finding(connection, finding_id)
    if found is None:
        return desk.missing(f"There is no finding {finding_id}.", "/drift")
    answering = champion(connection, shown.model)
    around = AROUND * shown.timing.hop_seconds
    return desk.render(
        "finding.html",
        here="/drift",
        title=f"{words.modality(found.modality)}: {words.detector(found.detector).name.lower()}",
        finding=found,
        method=methods.method(found.detector),
        conclusion=methods.CONCLUSIONS[found.verdict],
        gauge=explained.gauge(found),
        gauge_width=explained.GAUGE_WIDTH,
        value_said=explained.value_said(found),
        chance_said=explained.chance_said(found.p_value),
        rows_said=explained.rows_said(found),
        threshold_said=explained.threshold_said(found.details),
        tables=moved.moved(found, answering.class_names if answering else ()),
        near=neighbours(connection, shown.model, found),
        alerts=alerts_of(connection, shown.model, found),
        minutes=max(1, min(MAX_MINUTES, 2 * around // 60)),
        until=min(shown.clock.now(), found.window_end + timedelta(seconds=around)),
        kept=json.dumps(found.details, indent=2, sort_keys=True),
    )

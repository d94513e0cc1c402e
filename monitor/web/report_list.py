"""The page that lists reports, newest first."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from monitor.api.access import READS
from monitor.api.context import Cursor, Reading, Shown
from monitor.storage.views.reports import reports_page
from monitor.web.page import _templates

REPORTS = 40
router = APIRouter(include_in_schema=False, dependencies=READS)


@router.get("/reports")
def reports(shown: Shown, connection: Reading, cursor: Cursor = None) -> HTMLResponse:
    """Every report with its period, what it was like, and its files; `cursor` leads to older ones."""
    found = reports_page(connection, shown.model, limit=REPORTS, cursor=cursor)
    template = _templates.get_template("reports.html")
    return HTMLResponse(template.render(reports=found, cursor=cursor, now=shown.clock.now(), model=shown.model))

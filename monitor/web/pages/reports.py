"""Reports about days and weeks, newest first."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from monitor.api.context import Cursor
from monitor.storage.views.reports import reports_page
from monitor.web.page import At

REPORTS = 40
router = APIRouter(include_in_schema=False)


@router.get("/reports")
def reports(desk: At, cursor: Cursor = None) -> HTMLResponse:
    """Every report with its period, what it was like, and its files; `cursor` leads to older ones."""
    found = reports_page(desk.connection, desk.shown.model, limit=REPORTS, cursor=cursor)
    return desk.render("reports.html", here="/reports", title="Reports", reports=found, cursor=cursor)

"""Alerts: what is open, what is silenced, what is over; and one alert with all that is known of it."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from monitor.api.context import Cursor
from monitor.storage.views.alerts import notices
from monitor.storage.views.findings import finding
from monitor.storage.views.promises import promises
from monitor.storage.views.work import alert, alerts_page, open_alerts
from monitor.web.acts import LENGTHS, Id
from monitor.web.page import At

RECENT = 20
router = APIRouter(include_in_schema=False)


@router.get("/alerts")
def alerts(desk: At, cursor: Cursor = None) -> HTMLResponse:
    """What is open and silenced now, and what is over, newest first."""
    shown = desk.shown
    over = alerts_page(desk.connection, shown.model, state="resolved", limit=RECENT, cursor=cursor)
    return desk.render(
        "alerts.html",
        here="/alerts",
        title="Alerts",
        open=open_alerts(desk.connection, shown.model),
        silences=shown.silences.listed(),
        over=over,
        cursor=cursor,
        promises=promises(desk.connection, shown.model, shown.clock.now()),
    )


@router.get("/alerts/{alert_id}")
def one_alert(desk: At, alert_id: Id) -> HTMLResponse:
    """One alert: what it says, the finding behind it, who was told, and what can be done about it."""
    found = alert(desk.connection, desk.shown.model, alert_id)
    if found is None:
        return desk.missing(f"There is no alert {alert_id}.", "/alerts")
    behind = None if found.finding_id is None else finding(desk.connection, found.finding_id)
    return desk.render(
        "alert.html",
        here="/alerts",
        title=found.alertname,
        alert=found,
        behind=behind,
        notices=notices(desk.connection, alert_id),
        lengths=LENGTHS,
    )

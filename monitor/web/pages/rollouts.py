"""Challengers on their way: the one in progress, and those before."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from monitor.api.context import Cursor
from monitor.storage.views.rollouts import champion_state, rollouts_page
from monitor.web.page import At

SHOWN = 10
router = APIRouter(include_in_schema=False)


@router.get("/rollouts")
def rollouts(desk: At, cursor: Cursor = None) -> HTMLResponse:
    """Who answers, which challenger is on its way, and how earlier ones ended."""
    connection, model = desk.connection, desk.shown.model
    return desk.render(
        "rollouts.html",
        here="/rollouts",
        title="Rollouts",
        state=champion_state(connection, model),
        page=rollouts_page(connection, model, limit=SHOWN, cursor=cursor),
        cursor=cursor,
    )

"""Retraining: what stands in the way of a retrain, each job with the chain that led to it, and the audit log."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from monitor.api.context import Cursor
from monitor.storage.views.retraining import chains_page, decisions_page, queue
from monitor.storage.views.work import history_page, jobs_page
from monitor.web.page import At

JOBS, EVENTS = 5, 50
router = APIRouter(include_in_schema=False)


@router.get("/retraining")
def retraining(desk: At, cursor: Cursor = None) -> HTMLResponse:
    """Jobs newest first, each from the first finding to the promotion and the last alert that ended."""
    connection, model = desk.connection, desk.shown.model
    jobs = jobs_page(connection, model, limit=JOBS, cursor=cursor)
    # one more than the jobs: the first may be of a decision that led to none
    chains = chains_page(connection, model, limit=JOBS + 1, cursor=cursor).items
    waiting = next((each for each in chains if each.job_id is None), None)
    decisions = decisions_page(connection, model, limit=1).items
    return desk.render(
        "retraining.html",
        here="/retraining",
        title="Retraining",
        decision=decisions[0] if decisions and cursor is None else None,
        queue=queue(connection, model, desk.shown.clock.now(), limit=1),
        jobs=jobs,
        chains={each.job_id: each for each in chains},
        waiting=waiting,
        cursor=cursor,
    )


@router.get("/history")
def history(desk: At, cursor: Cursor = None) -> HTMLResponse:
    """The audit log, newest first."""
    events = history_page(desk.connection, limit=EVENTS, cursor=cursor)
    return desk.render("history.html", here="/history", title="History", events=events, cursor=cursor)

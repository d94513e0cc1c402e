"""The built-in pages as one: their routes, static files, and errors that a person can read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from monitor.web import acts
from monitor.web.page import HERE, plain
from monitor.web.pages import (
    alerts,
    calibration,
    drift,
    findings,
    modalities,
    overview,
    refused,
    reports,
    retraining,
    rollouts,
    sign_in,
)
from monitor.web.session import sign_in_path

# Whoever is not known yet must be able to say who they are.
FREE = ("/sign-in", "/sign-out")
ROUTERS = (overview, modalities, drift, calibration, alerts, retraining, rollouts, findings, refused, reports, sign_in)
Handler = Callable[[Request, Exception], Awaitable[Response]]


def install(app: FastAPI) -> None:
    """Serve the pages and their static files. Comes after the problems: a browser gets those of a page as a page."""
    for each in ROUTERS:
        app.include_router(each.router)
    app.include_router(acts.router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    for kind in (HTTPException, RequestValidationError, OperationalError, PoolTimeoutError, Exception):
        known: Any = app.exception_handlers[kind]
        app.add_exception_handler(kind, _readable(known))


def _readable(handler: Handler) -> Handler:
    async def readable(request: Request, error: Exception) -> Response:
        problem = await handler(request, error)
        if request.url.path.startswith("/v1/") or "text/html" not in request.headers.get("accept", ""):
            return problem
        if problem.status_code == HTTPStatus.UNAUTHORIZED:
            return RedirectResponse(sign_in_path(request.url.path if request.method == "GET" else "/alerts"), 303)
        told = json.loads(bytes(problem.body))
        said = [told["detail"], *told.get("errors", [])]
        page = plain("problem.html", problem.status_code, title=told["title"], said=said)
        page.headers.update({key: value for key, value in problem.headers.items() if not key.startswith("content-")})
        return page

    return readable

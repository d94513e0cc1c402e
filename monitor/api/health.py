"""Liveness, readiness, and Prometheus metrics of the API process."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Histogram, generate_latest
from pydantic import BaseModel

from migrations.connect import SchemaTooOldError, require_revision
from monitor.api.context import Shown
from monitor.api.problems import told

router = APIRouter(tags=["health"])
# Page and API promise answers well under a second; the last edges tell a slow database from a dead one.
_EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0)


class Health(BaseModel):
    """`ok`, and what that rests on."""

    status: Literal["ok"] = "ok"
    detail: str


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the process answers at all. It does not look at the database."""
    return Health(detail="the process answers")


@router.get("/readyz", responses=told(503))
def readyz(shown: Shown) -> Health:
    """Whether the database answers and its schema is new enough."""
    try:
        revision = require_revision(shown.engine)
    except SchemaTooOldError as error:
        raise HTTPException(503, str(error)) from None
    return Health(detail=f"the database answers; its schema is at {revision}")


def install_metrics(app: FastAPI, version: str) -> None:
    """Time every request by route, and serve the figures under /metrics."""
    registry = CollectorRegistry()
    Gauge("fusion_build_info", "Version of this program", ["version", "revision"], registry=registry).labels(
        version, ""
    ).set(1)
    seconds = Histogram(
        "fusion_http_request_duration_seconds",
        "Time to answer, by route",
        ["route", "method", "status"],
        buckets=_EDGES,
        registry=registry,
    )

    @app.middleware("http")
    async def timed(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        # the route's pattern, never the path: paths are without number
        route = getattr(request.scope.get("route"), "path", "other")
        seconds.labels(route, request.method, response.status_code).observe(time.perf_counter() - started)
        return response

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

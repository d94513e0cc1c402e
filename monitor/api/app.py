"""The web application: API, health and status page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from importlib.metadata import version as package_version

from fastapi import FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from sqlalchemy import Engine

from monitor.alerts.message import Links
from monitor.api import baselines as baseline_routes
from monitor.api import champion as champion_routes
from monitor.api import health, jobs, predict, problems, retraining, routes, silences
from monitor.api import receivers as receiver_routes
from monitor.api import reports as report_routes
from monitor.api import rollouts as rollout_routes
from monitor.api.access import Access, require_guards
from monitor.api.context import Context, Targets
from monitor.api.gateway import Gateway
from monitor.api.limits import BodyLimit
from monitor.domain.clock import Clock, SystemClock
from monitor.storage.views.models.base import Timing
from monitor.tasks.baselines import Baselines
from monitor.tasks.champions import Champions
from monitor.tasks.jobs import Cancelling
from monitor.tasks.policy import Policy
from monitor.tasks.receivers import Receivers
from monitor.tasks.rollouts import Rollouts
from monitor.tasks.silences import Silences
from monitor.web import site

# What tells nothing of the model.
FREE = ("/healthz", "/readyz", "/metrics", "/v1/openapi.json", "/static", *site.FREE)
MAX_BODY_BYTES = 64_000  # of what people write; requests may be larger
# Nothing from another host, no inline script or style, no frames.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def create_app(
    engine: Engine,
    *,
    model: str,
    slot_seconds: int,
    hop_seconds: int,
    window_seconds: int,
    availability_window_seconds: int | None = None,
    grace_seconds: float = 0,
    targets: Targets | None = None,
    clock: Clock | None = None,
    access: Access | None = None,
    receivers: Receivers | None = None,
    policy: Policy | None = None,
    baselines: Baselines | None = None,
    rollouts: Rollouts | None = None,
    gateway: Gateway | None = None,
) -> FastAPI:
    """The application for one model. A GET reads in one read-only transaction with a deadline.

    `access` says who may do what; by default everybody reads and nobody writes. `policy` takes retrains that people
    ask for, `baselines` and `rollouts` what they do with those; requests and labels go through `gateway`.

    Raises RuntimeError where an endpoint asks for no scope.

    The seconds are those the monitor judges by (an availability window is one hop unless given); `targets` is what
    the page holds the model to.
    """
    version = package_version("fusionwatch")
    clock = clock or SystemClock()
    app = FastAPI(
        title="fusionwatch",
        version=version,
        summary="How a multimodal model is: modalities, drift, calibration, alerts and retraining.",
        docs_url=None,  # both viewers load their scripts from another host
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        generate_unique_id_function=lambda route: route.name,
        lifespan=_closing(gateway),
    )
    app.state.context = Context(
        engine=engine,
        model=model,
        timing=Timing(
            slot_seconds=slot_seconds,
            hop_seconds=hop_seconds,
            window_seconds=window_seconds,
            availability_window_seconds=availability_window_seconds or hop_seconds,
            grace_seconds=grace_seconds,
        ),
        targets=targets or Targets(),
        clock=clock,
        version=version,
        silences=Silences(engine, model, clock),
        cancelling=Cancelling(engine, model, clock),
        receivers=receivers or Receivers({}, model=model, links=Links("", ""), clock=clock),
        access=access or Access(),
        policy=policy,
        champions=Champions(engine, model, clock),
        baselines=baselines or Baselines(engine, model, slot=timedelta(seconds=slot_seconds), options={}, clock=clock),
        rollouts=rollouts,
        gateway=gateway,
    )
    problems.install(app)
    # before the others, and so within them: what it raises while a body is read is then answered as any error
    app.add_middleware(BodyLimit, most=MAX_BODY_BYTES, larger={"/v1/predict": predict.MAX_BODY_BYTES})
    app.include_router(routes.router)
    app.include_router(silences.router)
    app.include_router(jobs.router)
    app.include_router(receiver_routes.router)
    app.include_router(retraining.router)
    app.include_router(report_routes.router)
    app.include_router(report_routes.files)
    app.include_router(rollout_routes.router)
    app.include_router(baseline_routes.router)
    app.include_router(champion_routes.router)
    app.include_router(predict.router)
    app.include_router(health.router)
    site.install(app)
    health.install_metrics(app, version)
    require_guards(app, FREE)
    app.middleware("http")(_secured)
    app.add_middleware(GZipMiddleware, minimum_size=1024)
    return app


def _closing(gateway: Gateway | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        if gateway is not None:
            await gateway.close()

    return lifespan


async def _secured(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)  # a report's page has a policy of its own
    if not request.url.path.startswith("/static/"):
        response.headers["Cache-Control"] = "no-store"
    return response

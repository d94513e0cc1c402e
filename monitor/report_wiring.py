"""How reports are put together: settings in, collaborators out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Engine

from monitor import alert_wiring
from monitor.channels.base import Channel
from monitor.detectors.base import catalogue
from monitor.domain.cadence import Cadence
from monitor.domain.clock import Clock, SystemClock
from monitor.domain.window import Window
from monitor.reports.material import Material
from monitor.reports.run import Bounds, Renderer
from monitor.settings import MonitorSettings
from monitor.storage.reports import Retry
from monitor.tasks.report import Making, Plan, Reports
from monitor.tasks.reporting import Held, gather
from monitor.telemetry import Metrics


def making(settings: MonitorSettings, engine: Engine, metrics: Metrics, clock: Clock | None = None) -> Making:
    """What makes one report."""
    options = catalogue()["calibration"].options(**settings.detector_options.get("calibration", {}))
    held = Held(options.threshold, options.min_rows)

    def read(cadence: Cadence, window: Window, now: datetime) -> Material:
        status_page = str(settings.dashboard_url)
        return gather(engine, settings.model, cadence, window, now=now, held=held, status_page=status_page)

    bounds = Bounds(timedelta(seconds=settings.report_deadline_seconds), settings.report_memory_mb * 1024**2)
    return Making(
        engine, settings.model, read, Renderer(bounds, settings.report_kinds), metrics, clock or SystemClock()
    )


def reports(
    settings: MonitorSettings, engine: Engine, built: Mapping[str, Channel], metrics: Metrics, clock: Clock
) -> Reports:
    """The task that makes scheduled reports."""
    # reading what a report tells takes minutes at most, and each of its two kinds its deadline
    lost = timedelta(minutes=30) + 2 * timedelta(seconds=settings.report_deadline_seconds)
    plan = Plan(
        cadences=tuple(map(Cadence, settings.reports)),
        delay=timedelta(seconds=settings.report_delay_seconds),
        keep=timedelta(days=settings.report_keep_days),
        retry=Retry(lost=lost, pause=timedelta(minutes=10), most=3),
    )
    return Reports(
        making(settings, engine, metrics, clock),
        plan,
        routes=settings.checked_routes,
        channels=built,
        links=alert_wiring.links(settings),
        metrics=metrics,
    )

"""The composition root: settings in, programs out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from migrations.connect import connect, unreachable
from monitor import alert_wiring, loop_wiring, report_wiring
from monitor.alerts.names import GRADUAL, GRADUAL_PAGE
from monitor.archive.folder import Archive
from monitor.detectors.base import catalogue
from monitor.domain.clock import Clock, SystemClock
from monitor.domain.rate import Buckets
from monitor.domain.sequential import Plan
from monitor.domain.signals import PAGE, TICKET
from monitor.domain.slo import Evidence
from monitor.errors import AccessError
from monitor.settings import MonitorSettings
from monitor.slo_settings import objectives
from monitor.storage.slos import Sources
from monitor.tasks.backfill import Backfill
from monitor.tasks.baselines import Baselines
from monitor.tasks.detect import Detect
from monitor.tasks.gradual import Watch
from monitor.tasks.judgement import Judgement
from monitor.tasks.leader import Leadership
from monitor.tasks.maintenance import Maintenance
from monitor.tasks.retention import Kept, Retention
from monitor.tasks.scheduler import Scheduler, Task
from monitor.tasks.sequential import Sequential
from monitor.tasks.silences import Silences
from monitor.tasks.slo import Slos
from monitor.tasks.windows import Windows
from monitor.telemetry import Metrics
from monitor.token_settings import keyring

if TYPE_CHECKING:
    from fastapi import FastAPI

    from monitor.api.access import Access
    from monitor.api.gateway import Gateway


class Monitor:
    """Everything `fusionwatch-monitor run` needs. The engine connects at first use; `close` gives all back."""

    def __init__(self, settings: MonitorSettings, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.engine = connect_engine(settings, "fusionwatch-monitor")
        self.metrics = Metrics()
        self._channels = alert_wiring.channels(settings)
        self.leadership = Leadership(self.engine, settings.model)
        fenced = self.leadership.fence(self.engine)
        self.detect = detect(settings, fenced, self.metrics, clock)
        self.slos = slos(settings, fenced, self.metrics, clock)
        self.notify = alert_wiring.notify(settings, fenced, self._channels, self.metrics, clock)
        self.resend = alert_wiring.resend(settings, fenced, self._channels, self.metrics, clock)
        # for what people ask, who need not lead
        self.retrain = loop_wiring.retrain(settings, self.engine, self.metrics, clock)
        self.jobs = loop_wiring.jobs(settings, fenced, self.metrics, clock)
        self.maintenance = Maintenance(fenced, self.metrics, clock)
        self.reports = report_wiring.reports(settings, fenced, self._channels, self.metrics, clock)
        self.security = alert_wiring.security(settings, fenced, self.metrics, clock)
        self.lifeline = alert_wiring.lifeline(settings, self.engine, self._channels, self.metrics, clock)
        retrain = loop_wiring.retrain(settings, fenced, self.metrics, clock)
        rollouts = loop_wiring.rollouts(settings, fenced, self.metrics, clock)
        tasks = (
            Task("detect", settings.detect_interval_seconds, self.lifeline.guard(self.detect.run)),
            Task("slo", settings.slo_interval_seconds, self.slos.run),
            Task("lifeline", settings.detect_interval_seconds, self.lifeline.run, leader_only=False),
            Task("notify", settings.notify_interval_seconds, self._tell),
            Task("jobs", settings.retrain_interval_seconds, self.jobs.run),
            Task("retrain", settings.retrain_interval_seconds, retrain.run),
            Task("rollout", settings.rollout_check_seconds, rollouts.run),
            Task("report", settings.report_interval_seconds, self.reports.run, stop=self.reports.stop),
            Task("security", settings.security_interval_seconds, self.security.run),
            Task("maintenance", settings.maintenance_interval_seconds, self.maintenance.run),
            Task("retention", settings.maintenance_interval_seconds, retention(settings, fenced, clock).run),
        )
        self.scheduler = Scheduler(tasks, self.leadership, self.metrics, clock)

    def _tell(self) -> None:
        self.notify.run()
        self.resend.run()

    def not_ready(self) -> str | None:
        """Why the monitor cannot work now; None where it can, whether it leads or stands by."""
        return unreachable(self.engine)

    def close(self) -> None:
        """Close channels and connections."""
        self.leadership.release()
        for channel in self._channels.values():
            channel.close()
        self.engine.dispose()


def connect_engine(settings: MonitorSettings, application: str) -> Engine:
    """An engine for one of the monitor's programs."""
    return connect(
        settings.database_url.get_secret_value(), application=application, pool_size=settings.database_pool_size
    )


def detect(settings: MonitorSettings, engine: Engine, metrics: Metrics, clock: Clock) -> Detect:
    """The detection task."""
    return Detect(
        engine,
        model=settings.model,
        detectors=detectors(settings),
        options=settings.detector_options,
        windows=windows(settings),
        sequential=sequential(settings),
        routes=settings.checked_routes,
        links=alert_wiring.links(settings),
        timing=alert_wiring.timing(settings),
        metrics=metrics,
        clock=clock,
    )


def detectors(settings: MonitorSettings) -> tuple[str, ...]:
    """The detectors that are switched on."""
    return tuple(catalogue()) if settings.detectors is None else settings.detectors


def windows(settings: MonitorSettings) -> Windows:
    """Which windows are judged."""
    return Windows(
        hop=timedelta(seconds=settings.hop_seconds),
        window=timedelta(seconds=settings.window_seconds),
        availability=timedelta(seconds=settings.availability_window),
        labels=timedelta(seconds=settings.label_window_seconds),
        grace=timedelta(seconds=settings.grace_seconds),
        silence=timedelta(seconds=settings.silence_seconds),
        catch_up=settings.catch_up_windows,
        label_limit=settings.label_limit,
        late=settings.late_windows * timedelta(seconds=settings.window_seconds),
    )


def backfill(settings: MonitorSettings, engine: Engine) -> Backfill:
    """What judges past windows again."""
    chosen = windows(settings)
    judgement = Judgement(settings.model, detectors(settings), settings.detector_options, chosen)
    return Backfill(engine, settings.model, judgement, chosen)


def slos(settings: MonitorSettings, engine: Engine, metrics: Metrics, clock: Clock) -> Slos:
    """The task that judges objectives."""
    chosen = objectives(settings.slos)
    return Slos(
        engine,
        objectives=chosen,
        evidence=Evidence(settings.slo_min_events, settings.slo_min_bad, settings.slo_low_traffic_bad),
        sources=Sources(
            settings.model, timedelta(seconds=settings.slot_seconds), chosen.limits_ms, settings.topic_labels
        ),
        alerting=alert_wiring.alerting(settings),
        wait=timedelta(seconds=settings.hop_seconds + settings.grace_seconds + settings.detect_interval_seconds),
        metrics=metrics,
        clock=clock,
    )


def retention(settings: MonitorSettings, engine: Engine, clock: Clock | None = None) -> Retention:
    """What lets go of old days."""
    return Retention(
        engine,
        Kept(settings.retention_log_days or None, settings.retention_summary_days or None),
        None if settings.archive_folder is None else Archive(settings.archive_folder),
        clock or SystemClock(),
    )


def silences(settings: MonitorSettings, engine: Engine, clock: Clock | None = None) -> Silences:
    """What people say of alerts."""
    return Silences(engine, settings.model, clock or SystemClock())


def baselines(settings: MonitorSettings, engine: Engine, clock: Clock | None = None) -> Baselines:
    """What people do with baselines."""
    return Baselines(
        engine,
        settings.model,
        slot=timedelta(seconds=settings.slot_seconds),
        options=settings.detector_options,
        clock=clock or SystemClock(),
    )


def sequential(settings: MonitorSettings) -> Sequential:
    """What judges gradual change: availability for pages, what windows say of inputs and answers for tickets."""

    def watch(detector: str, alertname: str, severity: str, seconds: int, allowed: float) -> Watch:
        plan = Plan(settings.calibration_of(seconds), settings.reference_windows)
        return Watch(detector, alertname, severity, timedelta(seconds=seconds), allowed, plan)

    pages = watch(GRADUAL_PAGE, "GradualUnavailability", PAGE, settings.availability_window, settings.false_pages)
    tickets = watch(GRADUAL, "GradualDrift", TICKET, settings.window_seconds, settings.false_tickets)
    return Sequential(settings.model, watches=(pages, tickets), late=settings.late_windows)


def access(settings: MonitorSettings) -> Access:
    """Who may call the API. Raises AccessError where a token cannot be used, or in production where there is none."""
    # Here, as the monitor itself needs no web framework.
    from monitor.api.access import Access

    keys = keyring(settings.api_tokens, settings.api_token)
    production = settings.environment == "production"
    if production and not keys:
        raise AccessError(
            "FUSIONWATCH_ENVIRONMENT is production, where reading takes a token, and there is none: "
            "`fusionwatch-monitor tokens new --name ... --scope read` makes one and prints its setting"
        )
    return Access(keys, not production, Buckets(settings.api_rate, settings.api_burst))


def _gateway(settings: MonitorSettings) -> Gateway | None:
    from monitor.api.gateway import Gateway

    if settings.gateway_url is None or settings.gateway_secret is None:
        return None
    secret = settings.gateway_secret.get_secret_value()
    return Gateway(str(settings.gateway_url), secret, settings.gateway_timeout_seconds)


def api(settings: MonitorSettings, engine: Engine) -> FastAPI:
    """The API and the status page, held to what the detectors are told."""
    # Here, as the monitor itself needs no web framework.
    from monitor.api.app import create_app
    from monitor.api.context import Targets

    def told(detector: str) -> Any:
        return catalogue()[detector].options(**settings.detector_options.get(detector, {}))

    return create_app(
        engine,
        model=settings.model,
        window_seconds=settings.window_seconds,
        hop_seconds=settings.hop_seconds,
        slot_seconds=settings.slot_seconds,
        availability_window_seconds=settings.availability_window,
        grace_seconds=settings.grace_seconds,
        access=access(settings),
        gateway=_gateway(settings),
        baselines=baselines(settings, engine),
        rollouts=loop_wiring.rollouts(settings, engine, Metrics(), SystemClock()),
        receivers=alert_wiring.receivers(settings),
        policy=loop_wiring.policy(settings, engine, Metrics(), SystemClock()),
        targets=Targets(
            availability=told("availability").target,
            calibration_error=told("calibration").threshold,
            minimum_labels=told("calibration").min_rows,
            label_minutes=max(1, settings.label_window_seconds // 60),
            trends={
                "calibration": told("calibration").threshold,
                **{name: told(name).target for name in ("review_rate", "false_positives")},
                "cost": told("cost").target_ms,
            },
        ),
    )

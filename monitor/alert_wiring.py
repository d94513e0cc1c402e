"""How alerts are put together, from rules to receivers: settings in, collaborators out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial

from sqlalchemy import Engine

from monitor.alerts.grouping import Timing
from monitor.alerts.message import Links
from monitor.alerts.names import ALL, UNWRITABLE
from monitor.alerts.routes import chosen
from monitor.channels.base import Channel, kinds
from monitor.domain.clock import Clock, SystemClock
from monitor.domain.signals import PAGE
from monitor.route_settings import kinds as all_kinds
from monitor.settings import MonitorSettings
from monitor.tasks.alerting import Alerting
from monitor.tasks.explain import Explain
from monitor.tasks.lifeline import Lifeline
from monitor.tasks.notify import Notify, RetryPolicy
from monitor.tasks.receivers import Receivers
from monitor.tasks.resend import Resend
from monitor.tasks.security import Security
from monitor.telemetry import Metrics


def links(settings: MonitorSettings) -> Links:
    """Where messages link to."""
    return Links(str(settings.dashboard_url), settings.runbook_url)


def alerting(settings: MonitorSettings) -> Alerting:
    """The step from findings to alerts and notifications."""
    return Alerting(
        settings.model,
        routes=settings.checked_routes,
        links=links(settings),
        window=timedelta(seconds=settings.window_seconds),
        hop=timedelta(seconds=settings.hop_seconds),
        timing=timing(settings),
    )


def channels(settings: MonitorSettings) -> dict[str, Channel]:
    """A channel for each receiver."""
    return {receiver: channel(settings, receiver) for receiver in settings.receivers}


def explain(settings: MonitorSettings, engine: Engine, clock: Clock | None = None) -> Explain:
    """What explains who would be told of an alert."""
    return Explain(engine, alerting(settings), model=settings.model, kinds=all_kinds(), clock=clock or SystemClock())


def receivers(settings: MonitorSettings, clock: Clock | None = None) -> Receivers:
    """What sends test messages."""
    builders = {name: partial(channel, settings, name) for name in settings.receivers}
    return Receivers(builders, model=settings.model, links=links(settings), clock=clock or SystemClock())


def channel(settings: MonitorSettings, receiver: str) -> Channel:
    """The channel of one receiver."""
    name, options = settings.options_of(receiver)
    return kinds()[name].build(options)


def timing(settings: MonitorSettings) -> Timing:
    """When messages are told together, and when again."""
    return Timing(
        wait=timedelta(seconds=settings.group_wait_seconds),
        interval=timedelta(seconds=settings.group_interval_seconds),
        repeat=timedelta(seconds=settings.repeat_seconds),
        flap=timedelta(seconds=settings.flap_seconds),
        at_once=one_by_one(settings),
    )


def one_by_one(settings: MonitorSettings) -> frozenset[str]:
    """The receivers that group alerts by themselves."""
    return frozenset(name for name in settings.receivers if kinds()[settings.options_of(name)[0]].one_by_one)


def every(settings: MonitorSettings) -> dict[str, timedelta]:
    """The receivers that forget what they do not hear of again, and how often each is to hear."""
    often = {name: kinds()[settings.options_of(name)[0]].resend for name in settings.receivers}
    return {name: each for name, each in often.items() if each is not None}


def notify(
    settings: MonitorSettings, engine: Engine, built: Mapping[str, Channel], metrics: Metrics, clock: Clock
) -> Notify:
    """The task that empties the outbox."""
    return Notify(engine, built, RetryPolicy(), metrics, clock, one_by_one(settings), every(settings))


def resend(
    settings: MonitorSettings, engine: Engine, built: Mapping[str, Channel], metrics: Metrics, clock: Clock
) -> Resend:
    """The task that keeps up what fires at receivers that forget."""
    return Resend(engine, built, every(settings), model=settings.model, metrics=metrics, clock=clock)


def security(settings: MonitorSettings, engine: Engine, metrics: Metrics, clock: Clock) -> Security:
    """The task that watches the audit log and reads of embeddings."""
    return Security(
        engine,
        settings.model,
        reads_per_hour=settings.embedding_reads_per_hour,
        alerting=alerting(settings),
        metrics=metrics,
        clock=clock,
    )


def lifeline(
    settings: MonitorSettings, engine: Engine, built: Mapping[str, Channel], metrics: Metrics, clock: Clock
) -> Lifeline:
    """The page that needs no database, to whom routes send it."""
    labels = {"alertname": UNWRITABLE, "severity": PAGE, "modality": ALL}
    return Lifeline(
        engine,
        {receiver: built[receiver] for receiver in chosen(settings.checked_routes, labels)},
        model=settings.model,
        links=links(settings),
        patience=timedelta(seconds=settings.database_page_seconds),
        metrics=metrics,
        clock=clock,
        resend=every(settings),
    )

"""Tells receivers that forget an alert they do not hear of again what still fires.

It runs in turn with the outbox, never beside it: that an alert is over is sent after the last time it was sent firing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import Engine

from monitor.alerts.message import message
from monitor.alerts.stages import FIRING, Notice
from monitor.channels.base import Channel, Outcome, attempt
from monitor.domain.clock import Clock
from monitor.storage import alerts
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)


class Resend:
    """The task. What it sends is no new notification: the log and its counters hold the first one."""

    def __init__(
        self,
        engine: Engine,
        channels: Mapping[str, Channel],
        every: Mapping[str, timedelta],
        *,
        model: str,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """`every` names the receivers that forget, and how often each is to hear."""
        self._engine = engine
        self._channels = channels
        self._every = every
        self._model = model
        self._metrics = metrics
        self._clock = clock
        self._last: dict[str, float] = {}

    def run(self) -> None:
        """Send to each receiver whose time has come the alerts that fire and of which it was told."""
        for receiver, every in self._every.items():
            now = self._clock.monotonic()
            if now - self._last.get(receiver, -math.inf) >= every.total_seconds():
                self._last[receiver] = now
                self._send(receiver)

    def _send(self, receiver: str) -> None:
        with self._engine.connect() as connection:
            told = alerts.told_firing(connection, self._model, receiver)
        for alert_id in told:
            with self._engine.connect() as connection:
                stored = alerts.still_firing(connection, alert_id)
            if stored is None:
                continue
            notice = Notice(stored.tracked(), FIRING, receiver)
            said = message(notice, self._model, dict(stored.annotations), stored.inhibited_by)
            key = f"{stored.alert.fingerprint}-{FIRING}-{alert_id}"
            delivery = attempt(self._channels[receiver], receiver, said, key)
            if delivery.outcome is Outcome.SENT:
                continue
            self._metrics.notification_failures.labels(receiver, str(delivery.outcome)).inc()
            _log.warning("%s was not told again of what fires: %s", receiver, delivery.reason)
            if delivery.outcome is Outcome.RETRY:
                return

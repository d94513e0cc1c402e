"""The page that needs no database: alerts and their outbox lie in it, and so cannot tell that it takes no writes.

What a task could not write, and a database that cannot be reached, is told straight to the receivers of pages once it
has lasted; what was told is remembered by this process alone. So each monitor, leading or standing by, tells of a
database that is away, and one that is started again meanwhile tells again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from migrations.connect import unreachable
from monitor.alerts.message import Links, direct
from monitor.alerts.names import UNWRITABLE
from monitor.alerts.stages import FIRING, RESOLVED, SENT
from monitor.channels.base import Channel, Delivery, Outcome, attempt
from monitor.domain.clock import Clock
from monitor.tasks.notify import RetryPolicy
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

ALERTNAME = UNWRITABLE
RUNBOOK = "database-writes-fail"


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Since when the database cannot be used, by both clocks, and why."""

    since: datetime
    begun: float
    reason: str


@dataclass(frozen=True, slots=True)
class _Try:
    """The next try of a message to one receiver."""

    at: float = 0.0
    failed: int = 0


class Lifeline:
    """The task; `guard` wraps the tasks whose writes it watches."""

    def __init__(
        self,
        engine: Engine,
        channels: Mapping[str, Channel],
        *,
        model: str,
        links: Links,
        patience: timedelta,
        metrics: Metrics,
        clock: Clock,
        resend: Mapping[str, timedelta] | None = None,
    ) -> None:
        """`channels` are those of the receivers of pages; trouble that lasts for `patience` is told.

        `resend` are the receivers that have to hear again so often of what lasts.
        """
        self._engine = engine
        self._channels = channels
        self._model = model
        self._links = links
        self._patience = patience.total_seconds()
        self._retry = RetryPolicy()
        self._resend = resend or {}
        self._metrics = metrics
        self._clock = clock
        self._unwritten: tuple[float, str] | None = None
        self._lock = threading.Lock()  # tasks run in threads of their own
        self._trouble: _Trouble | None = None
        self._told: dict[str, float] = {}  # when each receiver was told last
        self._tries: dict[tuple[str, str], _Try] = {}

    def guard(self, run: Callable[[], None]) -> Callable[[], None]:
        """The task as it was, watched for what the database refuses."""

        def watched() -> None:
            try:
                run()
            except DBAPIError as error:
                with self._lock:
                    self._unwritten = (self._clock.monotonic(), _name(error))
                raise
            with self._lock:
                self._unwritten = None

        return watched

    def run(self) -> None:
        """Look once; tell what has lasted, and that it is over to whom it was told."""
        now, reason = self._clock.monotonic(), self._reason()
        if reason is not None:
            known = self._trouble or _Trouble(self._clock.now(), now, reason)
            self._trouble = replace(known, reason=reason)
            if now - known.begun >= self._patience:
                self._tell(self._trouble, FIRING, {each for each in self._channels if self._has_to_hear(each)})
        elif self._trouble is not None:
            self._tell(self._trouble, RESOLVED, set(self._told))
            if not self._told:
                self._trouble = None
                self._tries.clear()

    def _has_to_hear(self, receiver: str) -> bool:
        told, every = self._told.get(receiver), self._resend.get(receiver)
        if told is None:
            return True
        return every is not None and self._clock.monotonic() - told >= every.total_seconds()

    def _reason(self) -> str | None:
        if (away := unreachable(self._engine)) is not None:
            return f"Seen by the monitor, {away}"
        with self._lock:
            seen = self._unwritten
        # what was long ago says nothing of now: the task may run on another monitor since
        if seen is None or self._clock.monotonic() - seen[0] >= 2 * self._patience:
            return None
        return f"The monitor cannot write to the database: {seen[1]}"

    def _tell(self, trouble: _Trouble, event: str, receivers: set[str]) -> None:
        for receiver in sorted(receivers):
            tried = self._tries.get((receiver, event), _Try())
            if self._clock.monotonic() < tried.at:
                continue
            delivery = self._deliver(receiver, trouble, event)
            if delivery.outcome is Outcome.RETRY:
                delay = max(self._retry.delay(tried.failed + 1), delivery.retry_after or timedelta(0)).total_seconds()
                self._tries[receiver, event] = _Try(self._clock.monotonic() + delay, tried.failed + 1)
                continue
            self._tries.pop((receiver, event), None)
            if event == FIRING:
                self._told[receiver] = self._clock.monotonic()
            else:
                self._told.pop(receiver, None)

    def _deliver(self, receiver: str, trouble: _Trouble, event: str) -> Delivery:
        message = direct(
            ALERTNAME,
            trouble.reason,
            model=self._model,
            since=trouble.since,
            resolved_at=self._clock.now() if event == RESOLVED else None,
            links=self._links,
            runbook=RUNBOOK,
        )
        key = f"{message['fingerprint']}-{event}-{trouble.since.isoformat()}"
        delivery = attempt(self._channels[receiver], receiver, message, key)
        if delivery.outcome is Outcome.SENT:
            self._metrics.notifications.labels(receiver, SENT).inc()
        else:
            self._metrics.notification_failures.labels(receiver, str(delivery.outcome)).inc()
            _log.error("%s %s was not told to %s: %s", ALERTNAME, event, receiver, delivery.reason)
        return delivery


def _name(error: DBAPIError) -> str:
    """The error's class and SQLSTATE. Not its text, which can hold values of rows."""
    code = getattr(error.orig, "pgcode", None)
    return type(error.orig).__name__ + (f" ({code})" if code else "")

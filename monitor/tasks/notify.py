"""Sends what is due in the outbox: at least once, with the same key on every try."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from monitor.alerts.grouping import together
from monitor.alerts.stages import DUE, FAILED, RESOLVED, SENT, SUPPRESSED
from monitor.channels.base import Channel, Delivery, Outcome, attempt
from monitor.domain.clock import Clock
from monitor.storage import notifications
from monitor.storage.notifications import Outgoing
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

BATCH = 100  # messages in one run; the rest comes in the next


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Tries double their distance from `first` up to `longest`, and end when a message is older than `give_up`."""

    first: timedelta = timedelta(seconds=2)
    longest: timedelta = timedelta(minutes=5)
    give_up: timedelta = timedelta(hours=24)

    def delay(self, attempts: int) -> timedelta:
        """How long to wait after that many failed tries, 1 or more."""
        doublings = min(attempts - 1, 30)
        return min(self.first * 2.0**doublings, self.longest)


class Notify:
    """The task. Each message is one transaction that holds its rows' locks while it is being delivered."""

    def __init__(
        self,
        engine: Engine,
        channels: Mapping[str, Channel],
        retry: RetryPolicy,
        metrics: Metrics,
        clock: Clock,
        one_by_one: Collection[str] = (),
        by_series: Collection[str] = (),
    ) -> None:
        """`one_by_one` are the receivers that group by themselves: they are told of each alert in its own message.

        `by_series` take all alerts of a series for one: an old one's end, told late, would end the newer one.
        """
        self._engine = engine
        self._channels = channels
        self._retry = retry
        self._metrics = metrics
        self._clock = clock
        self._one_by_one = frozenset(one_by_one)
        self._by_series = frozenset(by_series)
        self._unmarked: set[str] = set()  # delivered, but not known to be marked: a full disk must not repeat them

    def run(self) -> None:
        """Send what is due. A receiver that asks to be tried again is left alone for the rest of the run."""
        skip: set[str] = set()
        for _ in range(BATCH):
            if (key := self._send_one(skip)) is None:
                return
            self._unmarked.discard(key)

    def _send_one(self, skip: set[str]) -> str | None:
        """The key of the message dealt with, in a transaction that is committed on return; None where none is due."""
        now = self._clock.now()
        with self._engine.begin() as connection:
            first = notifications.claim_due(connection, now, skip)
            if first is None:
                return None
            alone = first.receiver in self._one_by_one
            claimed = [first] if alone else notifications.claim_group(connection, first)
            rows = [each for each in claimed if self._may_be_told(connection, each)]
            key = notifications.dedup_key(rows or [first])
            if not rows:
                return key
            delivery = Delivery(Outcome.SENT) if key in self._unmarked else self._deliver(rows, key)
            if delivery.outcome is Outcome.SENT:
                self._unmarked.add(key)
            else:
                self._metrics.notification_failures.labels(first.receiver, str(delivery.outcome)).inc()
            if delivery.outcome is Outcome.RETRY:
                skip.add(first.receiver)
            wait = max(self._retry.delay(first.attempts + 1), delivery.retry_after or timedelta(0))
            at = self._clock.now() + wait
            for each in rows:
                self._mark(connection, each, delivery, now, at)
            return key

    def _may_be_told(self, connection: Connection, outgoing: Outgoing) -> bool:
        """Ends a resolve whose firing message never arrived, or that a newer alert has overtaken."""
        if outgoing.event != RESOLVED:
            return True
        if not notifications.was_told(connection, outgoing):
            self._end(connection, outgoing, SUPPRESSED, "firing_not_told")
            return False
        if outgoing.receiver in self._by_series and notifications.fires_again(connection, outgoing):
            self._end(connection, outgoing, SUPPRESSED, "fires_again")
            return False
        return True

    def _mark(
        self, connection: Connection, outgoing: Outgoing, delivery: Delivery, now: datetime, next_try: datetime
    ) -> None:
        if delivery.outcome is Outcome.SENT:
            notifications.mark_sent(connection, outgoing.notification_id, self._clock.now())
            self._metrics.notifications.labels(outgoing.receiver, SENT).inc()
        elif delivery.outcome is Outcome.REFUSE:
            self._end(connection, outgoing, FAILED, f"refused: {delivery.reason}")
        elif now - outgoing.created_at >= self._retry.give_up:
            self._end(connection, outgoing, FAILED, f"gave up: {delivery.reason}")
        else:
            notifications.mark_retry(connection, outgoing.notification_id, next_try, f"{DUE}: {delivery.reason}")
            _log.warning(
                "%s %s of %s is not told to %s yet: %s",
                outgoing.payload["severity"],
                outgoing.event,
                outgoing.payload["alertname"],
                outgoing.receiver,
                delivery.reason,
            )

    def _deliver(self, rows: Sequence[Outgoing], key: str) -> Delivery:
        receiver = rows[0].receiver
        channel = self._channels.get(receiver)
        if channel is None:
            return Delivery(Outcome.REFUSE, f"receiver {receiver!r} is no longer configured")
        return attempt(channel, receiver, together([each.payload for each in rows]), key)

    def _end(self, connection: Connection, outgoing: Outgoing, status: str, reason: str) -> None:
        notifications.mark_ended(connection, outgoing.notification_id, status, reason)
        self._metrics.notifications.labels(outgoing.receiver, status).inc()
        if status == FAILED:
            _log.error(
                "%s %s of %s was not told to %s: %s",
                outgoing.payload["severity"],
                outgoing.event,
                outgoing.payload["alertname"],
                outgoing.receiver,
                reason,
            )

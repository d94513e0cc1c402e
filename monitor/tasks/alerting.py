"""Moves alerts by findings and writes what receivers are to be told, all in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.alerts import pipeline
from monitor.alerts.message import Links, annotate, message
from monitor.alerts.rules import RULES, Rule, labels, series
from monitor.alerts.stages import DUE, SUPPRESSED, Context, Notice, Tracked, inhibitor
from monitor.domain.alert import Event, Signal, State, step
from monitor.domain.finding import Finding
from monitor.storage import alerts, notifications
from monitor.storage.alerts import Stored
from monitor.storage.notifications import Entry


@dataclass(frozen=True, slots=True)
class Judged:
    """A finding that has been stored, with its id."""

    finding_id: int
    finding: Finding


class Alerting:
    """The step from findings to alerts and notifications of one model."""

    def __init__(
        self, model: str, *, routes: Mapping[str, tuple[str, ...]], links: Links, window: timedelta, hop: timedelta
    ) -> None:
        self._model = model
        self._routes = routes
        self._links = links
        self._window = window
        self._hop = hop

    def apply(self, connection: Connection, judged: Sequence[Judged], at: datetime, now: datetime) -> None:
        """Move every alert that the findings of the window ending `at` concern, then tell of it once."""
        known = {stored.alert_id: stored for stored in alerts.current(connection, self._model, at - self._memory())}
        newest = {stored.alert.fingerprint: stored for stored in known.values()}
        resolved_now = set()
        for one in judged:
            for rule in RULES:
                if not rule.covers(one.finding):
                    continue
                fingerprint = series(rule, self._model, one.finding.modality)
                moved, event = self._move(connection, rule, fingerprint, newest.get(fingerprint), one)
                if moved is not None:
                    known[moved.alert_id] = newest[fingerprint] = moved
                if moved is not None and event is Event.RESOLVED:
                    resolved_now.add(moved.alert_id)
        self._tell(connection, known, resolved_now, at, now)

    def _memory(self) -> timedelta:
        """How long a resolved alert can still explain another one."""
        return self._window + self._hop

    def _move(
        self, connection: Connection, rule: Rule, fingerprint: str, stored: Stored | None, one: Judged
    ) -> tuple[Stored | None, Event]:
        signal = rule.signal(one.finding)
        before = None if stored is None else stored.alert
        taken = step(before, fingerprint, rule.patience, signal, one.finding.window.end)
        if taken.alert is None or taken.alert == before:
            return None, Event.NONE
        breached = signal in (Signal.BREACH, Signal.URGENT)
        told = annotate(rule, one.finding, self._links) if breached else None
        if stored is not None and stored.alert.is_open:
            return alerts.move(connection, stored.alert_id, taken.alert, told, one.finding_id), taken.event
        opened = alerts.add(
            connection,
            taken.alert,
            alertname=rule.alertname,
            severity=rule.severity,
            labels=labels(self._model, one.finding.modality),
            annotations=told or {},
            finding_id=one.finding_id,
        )
        return opened, taken.event

    def _tell(
        self,
        connection: Connection,
        known: Mapping[int, Stored],
        resolved_now: set[int],
        at: datetime,
        now: datetime,
    ) -> None:
        tracked = tuple(stored.tracked() for stored in known.values())
        told = notifications.statuses(connection, list(known))
        context = Context(tracked, told, self._routes, at, self._window)
        causes = {one.alert_id: self._explain(connection, one, known[one.alert_id], context) for one in tracked}
        notices = pipeline.run(context, resolved_now)
        notifications.write(connection, [self._entry(one, known[one.tracked.alert_id], causes) for one in notices], now)

    def _explain(self, connection: Connection, one: Tracked, stored: Stored, context: Context) -> str | None:
        """The title of the alert that explains an open one now; written where it has changed."""
        if one.alert.state is State.RESOLVED:
            return stored.inhibited_by
        cause = inhibitor(one, context)
        title = None if cause is None else cause.title
        if title != stored.inhibited_by:
            alerts.explain(connection, one.alert_id, title)
        return title

    def _entry(self, notice: Notice, stored: Stored, causes: Mapping[int, str | None]) -> Entry:
        alert_id = notice.tracked.alert_id
        return Entry(
            alert_id,
            notice.event,
            notice.receiver,
            SUPPRESSED if notice.suppressed else DUE,
            notice.suppressed or notice.reason or "",
            message(notice, self._model, dict(stored.annotations), causes[alert_id]),
        )

"""Moves alerts by findings and writes what receivers are to be told, all in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from monitor.alerts import flaps, pipeline
from monitor.alerts.grouping import Group, Timing, due_at, group_key
from monitor.alerts.message import Links, annotate, message
from monitor.alerts.routes import Route
from monitor.alerts.rules import RULES, Rule, labels, series
from monitor.alerts.stages import DUE, SUPPRESSED, Context, Notice, Tracked, flapping, inhibitor, silencer
from monitor.domain.alert import Event, Signal, State, step
from monitor.domain.finding import Finding
from monitor.domain.signals import TICKET
from monitor.storage import alerts, notifications, silences
from monitor.storage.alerts import Stored
from monitor.storage.notifications import Entry
from monitor.telemetry import Metrics

# A page that flaps for longer than that is told once more.
LONGEST_DAMPING = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Judged:
    """A finding that has been stored, with its id."""

    finding_id: int
    finding: Finding


def count_decisions(metrics: Metrics, decided: Sequence[Entry]) -> None:
    """Count what stages decided, by their reasons' names; to be called once it is committed."""
    for each in decided:
        metrics.alert_decisions.labels(each.status, each.reason.partition(":")[0]).inc()


class Alerting:
    """The step from findings to alerts and notifications of one model."""

    def __init__(
        self,
        model: str,
        *,
        routes: tuple[Route, ...],
        links: Links,
        window: timedelta,
        hop: timedelta,
        timing: Timing,
    ) -> None:
        self._model = model
        self._routes = routes
        self._links = links
        self._window = window
        self._hop = hop
        self._timing = timing

    def apply(self, connection: Connection, judged: Sequence[Judged], at: datetime, now: datetime) -> list[Entry]:
        """Move every alert that the findings of the window ending `at` concern, then tell of it once.

        Without findings it looks at what time alone changes: silences that begin or end, what is to be repeated, what
        has settled. Returns the rows written to the outbox.
        """
        known = {one.alert_id: one for one in alerts.current(connection, self._model, self._since(connection, at))}
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
        resolved_now |= self._damp(connection, known, at, now)
        return self._tell(connection, known, resolved_now, self._context(connection, known, at, now))

    def context(self, connection: Connection, at: datetime, now: datetime) -> Context:
        """What stages would look at now. Nothing is moved or written."""
        known = {one.alert_id: one for one in alerts.current(connection, self._model, self._since(connection, at))}
        return self._context(connection, known, at, now)

    def _since(self, connection: Connection, at: datetime) -> datetime:
        """How far back a resolved alert still says something: it may explain another one, or be part of flapping."""
        begun = alerts.flapping_since(connection, self._model)
        flapping = at if begun is None else max(begun, at - LONGEST_DAMPING)
        return min(at - self._window - self._hop, flapping - self._timing.flap)

    def _context(self, connection: Connection, known: Mapping[int, Stored], at: datetime, now: datetime) -> Context:
        log = notifications.log(connection, list(known))
        return Context(
            alerts=tuple(stored.tracked() for stored in known.values()),
            told={key: told.status for key, told in log.items()},
            sent={key: told.sent_at for key, told in log.items() if told.sent_at is not None},
            routes=self._routes,
            at=at,
            now=now,
            window=self._window,
            silences=silences.active(connection, self._model, now),
            repeat=self._timing.repeat,
        )

    def _damp(self, connection: Connection, known: dict[int, Stored], at: datetime, now: datetime) -> set[int]:
        """Open and close tickets about flapping; the ids of those that were closed."""
        context = self._context(connection, known, at, now)
        annotations = {alert_id: stored.annotations for alert_id, stored in known.items()}
        for each in flaps.begun(context, self._model, annotations, self._links, self._timing.flap):
            opened = alerts.add(
                connection,
                each.alert,
                alertname=flaps.ALERTNAME,
                severity=TICKET,
                labels=each.labels,
                annotations=each.annotations,
                finding_id=None,
            )
            known[opened.alert_id] = opened
        settled = flaps.settled(context, self._timing.flap)
        for tracked, alert in settled:
            known[tracked.alert_id] = alerts.move(connection, tracked.alert_id, alert)
        return {tracked.alert_id for tracked, _ in settled}

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
        self, connection: Connection, known: Mapping[int, Stored], resolved_now: set[int], context: Context
    ) -> list[Entry]:
        causes = {one.alert_id: self._explain(connection, one, known[one.alert_id], context) for one in context.alerts}
        notices = pipeline.run(context, resolved_now)
        keys = {group_key(notice, self._model) for notice in notices}
        groups = notifications.groups(connection, keys, context.now, self._timing.interval) if keys else {}
        entries = []
        for notice in notices:
            alert_id = notice.tracked.alert_id
            told = message(notice, self._model, dict(known[alert_id].annotations), causes[alert_id])
            group = groups.get((notice.receiver, group_key(notice, self._model)), Group())
            entries.append(self._entry(notice, told, due_at(notice, group, context, self._timing)))
        notifications.write(connection, entries, context.now)
        self._mark_silences(connection, context)
        return entries

    def _explain(self, connection: Connection, one: Tracked, stored: Stored, context: Context) -> str | None:
        """The title of the alert that explains an open one now; written where it has changed."""
        if one.alert.state is State.RESOLVED:
            return stored.inhibited_by
        cause = inhibitor(one, context)
        title = None if cause is None else cause.title
        if title != stored.inhibited_by:
            alerts.explain(connection, one.alert_id, title)
        return title

    def _mark_silences(self, connection: Connection, context: Context) -> None:
        """Note which silence holds each open alert. The mark outlives the silence until its end could be told."""
        for one in context.alerts:
            if not one.alert.is_open:
                continue
            held = silencer(one, context)
            if held is None and (inhibitor(one, context) is not None or flapping(one, context)):
                continue
            if (mark := None if held is None else held.silence_id) != one.silenced_by:
                alerts.silence(connection, one.alert_id, mark)

    def _entry(self, notice: Notice, told: Mapping[str, Any], at: datetime) -> Entry:
        return Entry(
            notice.tracked.alert_id,
            notice.event,
            notice.receiver,
            SUPPRESSED if notice.suppressed else DUE,
            notice.suppressed or notice.reason or "",
            told,
            group_key(notice, self._model),
            at,
            again=notice.again,
        )

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
from monitor.alerts.rule import labels, series
from monitor.alerts.rules import RULES_OF
from monitor.alerts.stages import DUE, FAILED, SUPPRESSED, Context, Notice, inhibitor, silencer
from monitor.domain.alert import Event, Signal, step
from monitor.domain.finding import Finding
from monitor.domain.signals import TICKET
from monitor.domain.silence import Silence
from monitor.storage import alerts, notifications, silences
from monitor.storage.alerts import Moved, Opened, Stored
from monitor.storage.notifications import Entry, Key, Told
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

        There is one finding at most of a detector and modality. Without findings it looks at what time alone changes:
        silences that begin or end, what is to be repeated, what has settled. Returns the rows written to the outbox.
        The number of statements does not grow with that of findings.
        """
        known = {one.alert_id: one for one in alerts.current(connection, self._model, self._since(connection, at))}
        resolved_now = self._move(connection, known, judged)
        log = notifications.log(connection, known)
        held = silences.active(connection, self._model, now)
        resolved_now |= self._damp(connection, known, self._context(known, log, held, at, now))
        return self._tell(connection, known, resolved_now, self._context(known, log, held, at, now))

    def context(self, connection: Connection, at: datetime, now: datetime) -> Context:
        """What stages would look at now. Nothing is moved or written."""
        known = {one.alert_id: one for one in alerts.current(connection, self._model, self._since(connection, at))}
        log = notifications.log(connection, known)
        return self._context(known, log, silences.active(connection, self._model, now), at, now)

    def _since(self, connection: Connection, at: datetime) -> datetime:
        """How far back a resolved alert still says something: it may explain another one, or be part of flapping."""
        begun = alerts.flapping_since(connection, self._model)
        flapping = at if begun is None else max(begun, at - LONGEST_DAMPING)
        return min(at - self._window - self._hop, flapping - self._timing.flap)

    def _context(
        self,
        known: Mapping[int, Stored],
        log: Mapping[Key, Told],
        held: tuple[Silence, ...],
        at: datetime,
        now: datetime,
    ) -> Context:
        return Context(
            alerts=tuple(stored.tracked() for stored in known.values()),
            told={key: told.status for key, told in log.items()},
            sent={key: told.sent_at for key, told in log.items() if told.sent_at is not None},
            failed={key: told.written_at for key, told in log.items() if told.status == FAILED},
            routes=self._routes,
            at=at,
            now=now,
            window=self._window,
            silences=held,
            repeat=self._timing.repeat,
        )

    def _damp(self, connection: Connection, known: dict[int, Stored], context: Context) -> set[int]:
        """Open and close tickets about flapping; the ids of those that were closed."""
        annotations = {alert_id: stored.annotations for alert_id, stored in known.items()}
        begun = flaps.begun(context, self._model, annotations, self._links, self._timing.flap)
        tickets = [Opened(each.alert, flaps.ALERTNAME, TICKET, each.labels, each.annotations, None) for each in begun]
        settled = [Moved(known[one.alert_id], alert) for one, alert in flaps.settled(context, self._timing.flap)]
        changed = [*alerts.add(connection, tickets), *alerts.move(connection, settled)]
        known.update({stored.alert_id: stored for stored in changed})
        return {one.stored.alert_id for one in settled}

    def _move(self, connection: Connection, known: dict[int, Stored], judged: Sequence[Judged]) -> set[int]:
        """Step the alerts of all findings; the ids of those that are resolved by it."""
        newest = {stored.alert.fingerprint: stored for stored in known.values()}
        opened, moved, resolved = [], [], set()
        for one in judged:
            for rule in RULES_OF.get(one.finding.detector, ()):
                if not rule.covers(one.finding):
                    continue
                fingerprint = series(rule, self._model, one.finding.modality)
                stored = newest.get(fingerprint)
                before = None if stored is None else stored.alert
                signal = rule.signal(one.finding)
                taken = step(before, fingerprint, rule.patience, signal, one.finding.window.end)
                if taken.alert is None or taken.alert == before:
                    continue
                breached = signal in (Signal.BREACH, Signal.URGENT)
                told = annotate(rule, one.finding, self._links) if breached else None
                if stored is None or not stored.alert.is_open:
                    named = labels(self._model, one.finding.modality)
                    opened.append(Opened(taken.alert, rule.alertname, rule.severity, named, told or {}, one.finding_id))
                    continue
                moved.append(Moved(stored, taken.alert, told, one.finding_id))
                if taken.event is Event.RESOLVED:
                    resolved.add(stored.alert_id)
        changed = [*alerts.add(connection, opened), *alerts.move(connection, moved)]
        known.update({stored.alert_id: stored for stored in changed})
        return resolved

    def _tell(
        self, connection: Connection, known: Mapping[int, Stored], resolved_now: set[int], context: Context
    ) -> list[Entry]:
        causes = self._explain(connection, known, context)
        notices = pipeline.run(context, resolved_now)
        keys = {group_key(notice, self._model) for notice in notices}
        groups = notifications.groups(connection, keys, context.now, self._timing.interval) if keys else {}
        entries = []
        for notice in notices:
            alert_id = notice.tracked.alert_id
            told = message(notice, self._model, dict(known[alert_id].annotations), causes[alert_id])
            group = groups.get((notice.receiver, group_key(notice, self._model)), Group())
            entries.append(self._entry(notice, told, due_at(notice, group, context, self._timing)))
        written = notifications.write(connection, entries, context.now)
        self._mark_silences(connection, context)
        return written

    def _explain(
        self, connection: Connection, known: Mapping[int, Stored], context: Context
    ) -> Mapping[int, str | None]:
        """By id, the title of the alert that explains an open one now; written where it has changed."""
        titles = {alert_id: stored.inhibited_by for alert_id, stored in known.items()}
        changed: dict[int, str | None] = {}
        for one in context.alerts:
            cause = inhibitor(one, context) if one.alert.is_open else None
            title = None if cause is None else cause.title
            if one.alert.is_open and title != titles[one.alert_id]:
                changed[one.alert_id] = title
        alerts.explain(connection, changed)
        return titles | changed

    def _mark_silences(self, connection: Connection, context: Context) -> None:
        """Note which silence holds each open alert. The mark outlives the silence until its end could be told."""
        changed: dict[int, int | None] = {}
        for one in context.alerts:
            if not one.alert.is_open or not (context.silences or one.silenced_by):
                continue
            held = silencer(one, context)
            inhibited = inhibitor(one, context) is not None
            if held is None and (inhibited or one.alert.fingerprint in context.flapping):
                continue
            if (mark := None if held is None else held.silence_id) != one.silenced_by:
                changed[one.alert_id] = mark
        alerts.silence(connection, changed)

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

"""Judges objectives by wall clock: counts events, reads burn rates, moves alerts, shows what budget is left."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from monitor.alerts.names import BURN_RATE, BURN_RATE_ALERTS
from monitor.domain import durations
from monitor.domain.alert import State
from monitor.domain.clock import Clock
from monitor.domain.finding import Verdict
from monitor.domain.objectives import Objectives
from monitor.domain.schedule import floor
from monitor.domain.slo import BUDGET, Counts, Evidence, Judgement, Slo, budget_left, burn_rate, total
from monitor.domain.slo_report import Report, report
from monitor.domain.window import Window
from monitor.errors import NoChampionError
from monitor.storage import alerts, findings, models, slos
from monitor.storage.alerts import Stored
from monitor.storage.notifications import Entry
from monitor.storage.slos import BUCKET, Slot, Sources
from monitor.tasks.alerting import Alerting, Judged, count_decisions
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

# Windows up to this are added up slot by slot, and as far back rows that come late are counted at each run.
FRESH = timedelta(hours=2)
# Once an hour one looks as far back as this for rows that came later still.
LATE = timedelta(days=1)
# What an alert says of a burn rate is brought up to date so often.
REFRESH = timedelta(minutes=5)

Windows = Mapping[timedelta, Counts]


class Slos:
    """The task."""

    def __init__(
        self,
        engine: Engine,
        *,
        objectives: Objectives,
        evidence: Evidence,
        sources: Sources,
        alerting: Alerting,
        wait: timedelta,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """`wait` is how long detectors may take to judge a window: what they watch too is left to them so long."""
        self._engine = engine
        self._model = sources.model
        self._objectives = objectives
        self._evidence = evidence
        self._sources = sources
        self._alerting = alerting
        self._wait = wait
        self._metrics = metrics
        self._clock = clock

    def run(self) -> None:
        """Judge every objective as of now. Waits for a first champion, and for a clock that was set back."""
        now = self._clock.now()
        try:
            with self._engine.connect() as connection:
                champion = models.champion(connection, self._model)
        except NoChampionError as error:
            _log.info("%s", error)
            return
        held = self._objectives.of(champion.modalities)
        slis = {slo.sli for slo in held}
        # slots are whole: the one under way is in, so that a window holds its length but for what is left of that
        end = now + (floor(now, self._sources.slot) - now) % self._sources.slot
        self._catch_up(now, end, slis)
        with self._engine.begin() as connection:
            findings.lock(connection, self._model)
            last = slos.evaluated_at(connection, self._model)
            if last is not None and last >= now:
                return  # another monitor was faster
            counts = self._count(connection, end, held)
            found = [report(slo, counts[slo.sli], self._evidence) for slo in held]
            decided = self._alert(connection, found, now, champion.version)
            states = {(one.slo.name, one.slo.sli): one.state() for one in found}
            slos.write_status(connection, self._model, now, states)
        self._show(found)
        count_decisions(self._metrics, decided)

    def _catch_up(self, now: datetime, end: datetime, slis: set[str]) -> None:
        """Count what lies before FRESH and may have changed: since the last run, once an hour for late rows, or all."""
        with self._engine.connect() as connection:
            last = slos.counted_until(connection, self._model, slis)
        since = now - BUDGET if last is None else last - FRESH
        hour = timedelta(hours=1)
        if last is not None and floor(last, hour) < floor(now, hour):
            since = min(since, now - LATE)
            with self._engine.begin() as connection:
                slos.forget(connection, self._model, floor(now - BUDGET, BUCKET) - LATE)
        start, until = floor(max(since, now - BUDGET), BUCKET), floor(end - FRESH, BUCKET)
        while start < until:
            # a day at a time, so that no transaction is long
            stop = min(start + LATE, until)
            with self._engine.begin() as connection:
                slos.keep(connection, self._model, slos.per_slot(connection, self._sources, Window(start, stop)))
            start = stop

    def _count(self, connection: Connection, end: datetime, held: Sequence[Slo]) -> dict[str, Windows]:
        fresh = slos.per_slot(connection, self._sources, Window(floor(end - FRESH, BUCKET), end))
        slos.keep(connection, self._model, fresh)
        slis = {slo.sli for slo in held}
        lengths = sorted({length for slo in held for length in slo.windows})
        long = [length for length in lengths if length > FRESH]
        found: dict[str, dict[timedelta, Counts]] = slos.sums(connection, self._model, slis, end, long) if held else {}
        by_sli: dict[str, list[Slot]] = {sli: [] for sli in slis}
        for slot in fresh:
            by_sli.get(slot.sli, []).append(slot)
        for sli, slots in by_sli.items():
            for length in lengths:
                if length <= FRESH:
                    found[sli][length] = total(slot.counts for slot in slots if slot.start >= end - length)
        return dict(found)

    def _alert(self, connection: Connection, found: Iterable[Report], now: datetime, version: str) -> list[Entry]:
        """Findings of what fires and of what is over, and their alerts' moves."""
        known = alerts.current(connection, self._model, now)
        open_ones = {(each.alertname, each.modality): each for each in known if each.alert.is_open}
        told = []
        for one in found:
            for severity, judgement in one.by_severity.items():
                stored = open_ones.get((BURN_RATE_ALERTS[severity], one.slo.of))
                if self._matters(judgement, stored, now):
                    told.append(one.finding(severity, BURN_RATE[severity], now, version))
        ids = findings.store(connection, self._model, told)
        judged = [Judged(finding_id, finding) for finding_id, finding in zip(ids, told, strict=True)]
        return self._alerting.apply(connection, judged, now, now)

    def _matters(self, judgement: Judgement, stored: Stored | None, now: datetime) -> bool:
        """Whether a finding is worth its row: it fires, goes on for a while, or an alert may be over."""
        if judgement.verdict is not Verdict.DRIFT:
            return stored is not None and judgement.settled
        if stored is None or stored.alert.clear_windows:
            return True
        pause = self._wait if stored.alert.state is State.PENDING else REFRESH
        return now - stored.alert.last_window_end >= pause

    def _show(self, found: Iterable[Report]) -> None:
        self._metrics.slo_burn_rate.clear()
        self._metrics.slo_budget.clear()
        for one in found:
            for length in one.slo.windows - {BUDGET}:
                if (rate := burn_rate(one.counts[length], one.slo.target)) is not None:
                    self._metrics.slo_burn_rate.labels(one.slo.name, durations.short(length)).set(rate)
            if (left := budget_left(one.counts[BUDGET], one.slo.target)) is not None:
                self._metrics.slo_budget.labels(one.slo.name, durations.short(BUDGET)).set(left)

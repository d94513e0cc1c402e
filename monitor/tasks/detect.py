"""Judges each window once: summaries and labels in, findings, alert moves and notifications out, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine

from migrations.schema.partitions import days_ahead
from monitor.alerts.grouping import Timing
from monitor.alerts.message import Links
from monitor.alerts.names import ALL, BASELINE, PARTITIONS, RETRAIN_JOB, ROLLOUT, SILENCE
from monitor.alerts.routes import Route
from monitor.domain.clock import Clock
from monitor.domain.finding import Finding
from monitor.domain.schedule import due_ends
from monitor.domain.window import Window
from monitor.errors import NoChampionError
from monitor.storage import alerts, baselines, findings, gaps, jobs, models, rollouts, summaries
from monitor.storage.models import ModelVersion
from monitor.storage.notifications import Entry
from monitor.tasks import watches
from monitor.tasks.alerting import Alerting, Judged, count_decisions
from monitor.tasks.baselines import teach
from monitor.tasks.judgement import Judgement
from monitor.tasks.late import Late, late
from monitor.tasks.sequential import Sequential
from monitor.tasks.windows import Windows
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)


class Detect:
    """The task."""

    def __init__(
        self,
        engine: Engine,
        *,
        model: str,
        detectors: Sequence[str],
        options: Mapping[str, Mapping[str, Any]],
        windows: Windows,
        sequential: Sequential,
        routes: tuple[Route, ...],
        links: Links,
        timing: Timing,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._model = model
        self._options = options
        self._windows = windows
        self._judgement = Judgement(model, detectors, options, windows)
        self._sequential = sequential
        self._alerting = Alerting(
            model, routes=routes, links=links, window=windows.window, hop=windows.hop, timing=timing
        )
        self._metrics = metrics
        self._clock = clock

    def run(self) -> None:
        """Judge every window that is due, then what is watched by wall clock. Waits for a first champion."""
        now = self._clock.now()
        with self._engine.connect() as connection:
            last = findings.last(connection, self._model, BASELINE, ALL)
        ends = due_ends(last and last[0], now - self._windows.grace, self._windows.hop, self._windows.catch_up)
        try:
            for end in ends:
                self._judge(end)
            if ends:
                self._judge_late(now)
                teach(self._engine, self._model, self._options)
            self._watch(now)
        except NoChampionError as error:
            _log.info("%s", error)
        self._show_alerts()

    def _judge(self, end: datetime) -> None:
        with self._engine.connect() as connection:
            champion = models.champion(connection, self._model)
            found = self._judgement.findings(connection, champion, end)
        with self._engine.begin() as connection:
            findings.lock(connection, self._model)
            last = findings.last(connection, self._model, BASELINE, ALL)
            if last is not None and last[0] >= end:
                return  # another monitor was faster
            found = self._sequential.far_only(connection, found)
            gradual = self._sequential.findings(connection, found, end, self._clock.now())
            decided = self._store(connection, [*found, *gradual], end)
        self._show(found)
        count_decisions(self._metrics, decided)

    def _judge_late(self, now: datetime) -> None:
        """Judge windows again of which more is known now. Alerts go by the newest window and do not move by these."""
        with self._engine.connect() as connection:
            champion = models.champion(connection, self._model)
            behind = self._behind(connection, champion, now)
            again = [(one, self._judgement.again(connection, champion, one)) for one in behind]
        if not again:
            return
        with self._engine.begin() as connection:
            findings.lock(connection, self._model)
            if self._behind(connection, champion, now) == behind:  # else another monitor was faster
                for one, found in again:
                    findings.store(connection, self._model, found, one.revision)

    def _behind(self, connection: Connection, champion: ModelVersion, now: datetime) -> list[Late]:
        return late(
            connection,
            self._model,
            version=champion.version,
            baseline_id=baselines.chosen(connection, champion.version),
            now=now,
            look_back=self._windows.late,
            labels=self._windows.labels,
        )

    def _store(self, connection: Connection, found: Sequence[Finding], at: datetime) -> list[Entry]:
        ids = findings.store(connection, self._model, found)
        judged = [Judged(finding_id, finding) for finding_id, finding in zip(ids, found, strict=True)]
        return self._alerting.apply(connection, judged, at, self._clock.now())

    def _watch(self, now: datetime) -> None:
        """By wall clock: the stream, its log and partitions, what came of jobs and challengers."""
        with self._engine.begin() as connection:
            champion = models.champion(connection, self._model)
            findings.lock(connection, self._model)
            found = [
                *self._silence(connection, now, champion),
                *self._gaps(connection, now, champion),
                *self._job(connection, now, champion),
                *self._rollout(connection, now, champion),
                *self._partitions(connection, now, champion),
            ]
            last = findings.last(connection, self._model, BASELINE, ALL)
            judged = now if last is None else last[0]
            decided = self._store(connection, found, now) if found else []
            decided += self._alerting.apply(connection, [], judged, now)
        count_decisions(self._metrics, decided)

    def _silence(self, connection: Connection, now: datetime, champion: ModelVersion) -> list[Finding]:
        written = summaries.last_written(connection, now)
        if written is None:
            return []
        last = findings.last(connection, self._model, SILENCE, ALL)
        finding = watches.silence(written, last, now, self._windows.silence, champion.version)
        return [] if finding is None else [finding]

    def _gaps(self, connection: Connection, now: datetime, champion: ModelVersion) -> list[Finding]:
        last = {watch: findings.last(connection, self._model, watch, ALL) for watch in watches.GAPS.values()}
        if any(watches.set_back(each, now) for each in last.values()):
            return []  # an alert would not move: what was recorded is told of once the clock has caught up
        fresh, window = gaps.take(connection, now), Window(now - self._windows.window, now)
        found = []
        for kind, watch in watches.GAPS.items():
            seen = gaps.seen(connection, kind, window.start) if kind in fresh else []
            found.append(watches.offset_gaps(watch, seen, last[watch], window, champion.version))
        return [finding for finding in found if finding is not None]

    def _job(self, connection: Connection, now: datetime, champion: ModelVersion) -> list[Finding]:
        last = findings.last(connection, self._model, RETRAIN_JOB, ALL)
        finding = watches.retrain_job(jobs.newest_result(connection, self._model), last, now, champion.version)
        return [] if finding is None else [finding]

    def _rollout(self, connection: Connection, now: datetime, champion: ModelVersion) -> list[Finding]:
        newest = next(iter(rollouts.newest(connection, self._model, 1)), None)
        failed = newest is not None and rollouts.ended_by_check(connection, newest)
        last = findings.last(connection, self._model, ROLLOUT, ALL)
        finding = watches.rollout(newest, failed, last, now, champion.version)
        return [] if finding is None else [finding]

    def _partitions(self, connection: Connection, now: datetime, champion: ModelVersion) -> list[Finding]:
        last = findings.last(connection, self._model, PARTITIONS, ALL)
        finding = watches.partitions(days_ahead(connection, now.date()), last, now, champion.version)
        return [] if finding is None else [finding]

    def _show(self, found: Sequence[Finding]) -> None:
        for one in found:
            if one.value is None:
                continue
            if one.detector == "embedding_mmd":
                self._metrics.embedding_drift.labels(one.modality, one.detector).set(one.value)
            elif one.detector == "class_drift":
                self._metrics.prediction_drift.labels(one.modality, one.detector).set(one.value)
            elif one.detector == "calibration":
                self._metrics.calibration_error.labels(one.model_version).set(one.value)
                self._metrics.calibration_samples.labels(one.model_version).set(one.n_current)

    def _show_alerts(self) -> None:
        with self._engine.connect() as connection:
            counts = alerts.firing_counts(connection, self._model)
        self._metrics.alerts_firing.clear()
        for (alertname, severity), n in counts.items():
            self._metrics.alerts_firing.labels(alertname, severity).set(n)

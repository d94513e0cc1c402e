"""Judges each window once: summaries and labels in, findings, alert moves and notifications out, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from migrations.schema.bins import BinsError
from monitor.alerts.message import Links
from monitor.alerts.rules import ALL, BASELINE, SILENCE
from monitor.detectors.base import Takes, catalogue, evaluate
from monitor.domain.clock import Clock
from monitor.domain.finding import Finding, Verdict
from monitor.domain.schedule import due_ends
from monitor.domain.window import FUSED, Evidence, IncomparableError, Reference, Window
from monitor.errors import NoChampionError
from monitor.storage import alerts, baselines, findings, gaps, labels, models, summaries
from monitor.storage.models import ModelVersion
from monitor.tasks import watches
from monitor.tasks.alerting import Alerting, Judged
from monitor.tasks.attribute import attribute
from monitor.tasks.baselines import teach
from monitor.tasks.late import INPUTS, Late, inputs, late
from monitor.tasks.sequential import Sequential
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

AVAILABILITY = "availability"


@dataclass(frozen=True, slots=True)
class Windows:
    """What is looked at, and when.

    A window of length `window` ends at every multiple of `hop` and is judged `grace` after its end; availability looks
    back over `availability`, labels over the newest `label_limit` of those received within `labels`. After an absence
    at most the newest `catch_up` windows are judged. Windows whose data came late are judged again within `late`. A
    stream without rows for `silence` is silent. An alert of an offset gap stays for `window`.
    """

    hop: timedelta
    window: timedelta
    availability: timedelta
    labels: timedelta
    grace: timedelta
    silence: timedelta
    catch_up: int
    label_limit: int
    late: timedelta


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
        routes: Mapping[str, tuple[str, ...]],
        links: Links,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._model = model
        self._detectors = tuple(detectors)
        self._options = options
        self._windows = windows
        self._sequential = sequential
        self._alerting = Alerting(model, routes=routes, links=links, window=windows.window, hop=windows.hop)
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
            found = self._findings(connection, champion, end)
        with self._engine.begin() as connection:
            findings.lock(connection, self._model)
            last = findings.last(connection, self._model, BASELINE, ALL)
            if last is not None and last[0] >= end:
                return  # another monitor was faster
            found = self._sequential.far_only(connection, found)
            gradual = self._sequential.findings(connection, found, end, self._clock.now())
            self._store(connection, [*found, *gradual], end)
        self._show(found)

    def _judge_late(self, now: datetime) -> None:
        """Judge windows again whose data came late. Alerts go by the newest window and do not move by these."""
        with self._engine.connect() as connection:
            champion = models.champion(connection, self._model)
            behind = self._behind(connection, champion, now)
            again = [(one, self._findings(connection, champion, one.end, again=True)) for one in behind]
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
        )

    def _store(self, connection: Connection, found: Sequence[Finding], at: datetime) -> None:
        ids = findings.store(connection, self._model, found)
        judged = [Judged(finding_id, finding) for finding_id, finding in zip(ids, found, strict=True)]
        self._alerting.apply(connection, judged, at, self._clock.now())

    def _findings(
        self, connection: Connection, champion: ModelVersion, end: datetime, *, again: bool = False
    ) -> list[Finding]:
        """All findings of the windows that end then. The last one says whether there is a baseline to compare with."""
        window = Window(end - self._windows.window, end)
        written = inputs(connection, window)
        lately = Window(end - self._windows.availability, end)
        expected = champion.modalities
        middle = end - self._windows.window / 2
        reference = baselines.of_version(connection, champion.version, middle.astimezone(UTC).hour)
        problem = None if reference else f"{champion.version} brought no baseline."
        counts = Evidence(summaries.counts_of_all_versions(connection, lately, expected))
        found = self._run((AVAILABILITY,), reference, counts, lately, champion)
        by_labels = [name for name in self._detectors if catalogue()[name].takes is Takes.LABELS]
        if not again:
            found += self._by_labels(connection, by_labels, reference, end, champion)
        others = [name for name in self._detectors if name not in (*by_labels, AVAILABILITY)]
        try:
            evidence = Evidence(summaries.of_version(connection, window, champion.version, (*expected, FUSED)))
        except (IncomparableError, BinsError) as error:
            evidence, problem = Evidence({}), str(error)
        for name in others:
            try:
                found += self._run((name,), reference, evidence, window, champion)
            except IncomparableError as error:  # it must not keep the other detectors from judging
                problem = str(error)
        found = attribute(
            connection,
            found,
            model=self._model,
            version=champion.version,
            window=window,
            reference=reference,
            evidence=evidence,
        )
        return [*found, self._about_baseline(problem, window, champion, reference, written)]

    def _by_labels(
        self,
        connection: Connection,
        names: Sequence[str],
        reference: Reference | None,
        end: datetime,
        champion: ModelVersion,
    ) -> list[Finding]:
        window = Window(end - self._windows.labels, end)
        labelled = labels.labelled(
            connection, champion.version, start=window.start, end=end, limit=self._windows.label_limit
        )
        return self._run(names, reference, Evidence({}, labelled), window, champion)

    def _run(
        self,
        names: Sequence[str],
        reference: Reference | None,
        evidence: Evidence,
        window: Window,
        champion: ModelVersion,
    ) -> list[Finding]:
        chosen = tuple(name for name in names if name in self._detectors)
        return evaluate(
            reference,
            evidence,
            window=window,
            model_version=champion.version,
            detectors=chosen,
            options=self._options,
        )

    def _about_baseline(
        self,
        problem: str | None,
        window: Window,
        champion: ModelVersion,
        reference: Reference | None,
        written: Sequence[int],
    ) -> Finding:
        verdict = Verdict.NO_BASELINE if problem else Verdict.OK
        explanation = problem or f"{champion.version} is compared with its own baseline."
        baseline_id = None if reference is None else reference.baseline_id
        return watches.plain(
            BASELINE,
            window,
            verdict,
            champion.version,
            explanation,
            baseline_id=baseline_id,
            details={INPUTS: list(written)},
        )

    def _watch(self, now: datetime) -> None:
        """By wall clock: silence, and messages that were lost or a log that was reset."""
        with self._engine.begin() as connection:
            champion = models.champion(connection, self._model)
            findings.lock(connection, self._model)
            found = [*self._silence(connection, now, champion), *self._gaps(connection, now, champion)]
            if found:
                self._store(connection, found, now)

    def _silence(self, connection: Connection, now: datetime, champion: ModelVersion) -> list[Finding]:
        written = summaries.last_written(connection)
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

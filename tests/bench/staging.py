"""A stream of scenarios through the real pipeline: Kafka, a worker process, PostgreSQL and the monitor's own task.

A phase is a stretch of windows of one scenario. What its requests say of when they were produced is a steady pace from
the phase's start; they leave as fast as may be, and labels with them. When all of it is written, the monitor judges the
phase's windows with a clock that it is given, then twice the labels received since the phase's start: once could be
chance, as the alert rules have it. So a busy machine makes phases longer and changes nothing in them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from kafka import KafkaProducer
from sqlalchemy import Engine, Row, create_engine, func, select

from demo.scenarios import DriftScenario
from demo.traffic import encode
from migrations.schema.monitoring import alerts, findings
from migrations.schema.prediction_log import labels, prediction_log
from monitor.detectors.base import Takes, catalogue
from monitor.domain.schedule import floor
from monitor.settings import MonitorSettings
from monitor.telemetry import Metrics
from monitor.wiring import detect
from tests.bench.rig import MSGPACK
from tests.support.monitored import StoryClock
from tests.support.worker import WorkerProcess, wait_until

SLOT = HOP = WINDOW = 1
"""Seconds: an hour of production in one."""
RATE = 200
"""Requests a second, so in a window."""
LABELLED = 0.5
"""Share of requests that get a label."""
LABEL_JUDGEMENTS = 2
GRACE = 0.5
PATIENCE_SECONDS = 180
BY_LABELS = tuple(name for name, detector in catalogue().items() if detector.takes is Takes.LABELS)
INPUTS = tuple(name for name in catalogue() if name not in BY_LABELS)
LABELS_NOT_READ = 1


@dataclass(frozen=True, slots=True)
class Phase:
    """One scenario's stretch of the stream: produced in [start, end), labelled and judged to the last by `closed`.

    `truth` is the class of each request by id, `labelled` those of which the worker was told.
    """

    scenario: DriftScenario
    start: datetime
    end: datetime
    closed: datetime
    truth: dict[str, str] = field(repr=False)
    labelled: frozenset[str] = field(repr=False)


class Staging:
    """The producers, the labellers and the monitor around a running worker."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._engine: Engine = create_engine(worker.database)
        self._producer = KafkaProducer(bootstrap_servers=worker.broker, linger_ms=5, enable_idempotence=False)
        self._clock = StoryClock(at=_now())
        self._metrics = Metrics()
        self._phases = 0

    def close(self) -> None:
        """Give connections back."""
        self._producer.close()
        self._engine.dispose()

    def play(self, scenario: DriftScenario, windows: int, seed: int) -> Phase:
        """Stream so many windows of a scenario, and have them and their labels judged.

        It starts after the phase before was closed, so that it is judged by no label of that one.
        """
        name = f"phase-{self._phases:03d}"
        self._phases += 1
        time.sleep(max(0.0, (self._clock.at - _now()).total_seconds()))
        start = floor(_now() + timedelta(seconds=HOP), timedelta(seconds=HOP))
        time.sleep((start - _now()).total_seconds())
        count = round(windows * WINDOW * RATE)
        truth, chosen = {}, np.random.default_rng([seed, 4]).random(count) < LABELLED
        for number, example in zip(range(count), scenario.examples(seed), strict=False):
            produced = start + timedelta(seconds=(number + 0.5) / RATE)
            request_id = f"{name}-{number:05d}"
            value = encode(request_id, produced, example, with_image=scenario.with_image, as_json=False)
            self._send("requests", request_id, value, MSGPACK)
            truth[request_id] = example.label.name.lower()
            if chosen[number]:
                self._send("labels", request_id, _label(request_id, truth[request_id]), [])
        self._producer.flush()
        labelled = frozenset(request for request, taken in zip(truth, chosen.tolist(), strict=True) if taken)
        wait_until(lambda: self._written(name) == (count, len(labelled)), PATIENCE_SECONDS, lambda: self._missing(name))
        end = start + timedelta(seconds=windows * WINDOW)
        closed = self._judge(start, end)
        return Phase(scenario, start, end, closed, truth, labelled)

    def _send(self, role: str, key: str, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self._producer.send(self._worker.topics[role], value=value, key=key.encode(), headers=headers)

    def _written(self, name: str) -> tuple[int, int]:
        """Requests and labels of a phase in the database."""
        with self._engine.connect() as connection:
            found = [
                connection.scalar(
                    select(func.count()).select_from(table).where(table.c.request_id.startswith(f"{name}-"))
                )
                for table in (prediction_log, labels)
            ]
        return int(found[0] or 0), int(found[1] or 0)

    def _missing(self, name: str) -> str:
        return f"only {self._written(name)} requests and labels of {name}; {self._worker.log.read_text()[-2000:]}"

    def _judge(self, start: datetime, end: datetime) -> datetime:
        """Judge every window that ends until `end`, then the labels received since `start`; returns the last end."""
        hop, at = timedelta(seconds=HOP), start
        while at < end:
            at += hop
            self._judge_at(at, INPUTS, LABELS_NOT_READ)
        received = floor(max(at, _now()), hop) + hop
        for at in (received + number * hop for number in range(LABEL_JUDGEMENTS)):
            self._judge_at(at, BY_LABELS, round((at - start).total_seconds()))
        return at

    def _judge_at(self, end: datetime, detectors: tuple[str, ...], label_seconds: int) -> None:
        settings = MonitorSettings.model_validate(
            {
                "database_url": self._worker.database,
                "slot_seconds": SLOT,
                "hop_seconds": HOP,
                "window_seconds": WINDOW,
                "grace_seconds": GRACE,
                "catch_up_windows": 1,
                "label_window_seconds": label_seconds,
                "silence_seconds": 86_400,
                "flap_seconds": WINDOW,  # one scenario follows another: no series is meant to hold still
                "detectors": detectors,
            }
        )
        self._clock.advance((end - self._clock.at).total_seconds() + GRACE)
        detect(settings, self._engine, self._metrics, self._clock).run()

    def accuracy(self, phase: Phase) -> float:
        """Share of a phase's answers that are right, of all its requests."""
        query = select(prediction_log.c.request_id, prediction_log.c.prediction).where(
            prediction_log.c.produced_at >= phase.start, prediction_log.c.produced_at < phase.end
        )
        with self._engine.connect() as connection:
            answers = {row.request_id: row.prediction for row in connection.execute(query)}
        return float(np.mean([answers[request_id] == label for request_id, label in phase.truth.items()]))

    def findings(self, phase: Phase) -> Sequence[Row[Any]]:
        """What the detectors said of the windows that ended since a phase began and until it was closed."""
        query = select(findings).where(findings.c.window_end > phase.start, findings.c.window_end <= phase.closed)
        with self._engine.connect() as connection:
            return connection.execute(
                query.where(findings.c.revision == 0).order_by(findings.c.window_end, findings.c.finding_id)
            ).all()

    def fired(self, phase: Phase) -> Sequence[Row[Any]]:
        """The alerts that began to fire in that time."""
        query = select(alerts).where(alerts.c.firing_since > phase.start, alerts.c.firing_since <= phase.closed)
        with self._engine.connect() as connection:
            return connection.execute(query.order_by(alerts.c.firing_since, alerts.c.alert_id)).all()

    def open_alerts(self) -> list[str]:
        """What is still not resolved, as "name modality"."""
        query = select(alerts.c.alertname, alerts.c.modality).where(alerts.c.state == "firing")
        with self._engine.connect() as connection:
            return [f"{row.alertname} {row.modality}" for row in connection.execute(query)]


def _now() -> datetime:
    return datetime.now(UTC)


def _label(request_id: str, label: str) -> bytes:
    message = {
        "schema_version": 1,
        "request_id": request_id,
        "label": label,
        "labelled_at": _now().isoformat(),
        "source": "ground_truth",
    }
    return json.dumps(message).encode()

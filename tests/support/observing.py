"""The program that observes a model served elsewhere, and the messages such a model's team would send."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaProducer
from sqlalchemy import Engine, func, select

from demo.servers import as_login, free_port
from inference.observe_settings import ObserveSettings
from inference.observe_wiring import ObserveProgram
from migrations.schema import bins as schema_bins
from migrations.schema.prediction_log import modality_log, prediction_log
from migrations.schema.summaries import summaries
from tests.support.worker import KEY, RUN, answers_ok, wait_until

PRESENT = {"status": "present"}
SECONDS = 60  # a busy machine's worth


def observation(request_id: str | None, **changes: Any) -> dict[str, Any]:
    """An observation with both modalities present; `changes` replace fields."""
    return {
        "schema_version": 1,
        "request_id": request_id,
        "produced_at": datetime.now(UTC).isoformat(),
        "model_version": "2026-02",
        "probabilities": {"no": 0.25, "yes": 0.75},
        "modalities": {"image": PRESENT, "text": PRESENT},
        **changes,
    }


def label(request_id: str, name: str, at: datetime, **changes: Any) -> dict[str, Any]:
    """A label by human review; `changes` replace fields."""
    fields = {"schema_version": 1, "request_id": request_id, "label": name, "labelled_at": at.isoformat()}
    return {**fields, "source": "human_review", **changes}


def send_all(broker: str, topic: str, messages: Iterable[Mapping[str, Any]], partitions: int = 2) -> None:
    """Send messages as MessagePack, dealt over partitions in turn, and wait until the broker has them."""
    client = KafkaProducer(bootstrap_servers=broker, enable_idempotence=False)
    headers = [("content-type", b"application/msgpack")]
    try:
        futures = [
            client.send(topic, value=msgspec.msgpack.encode(message), partition=n % partitions, headers=headers)
            for n, message in enumerate(messages)
        ]
        for future in futures:
            future.get(timeout=30)
    finally:
        client.close()


@dataclass
class Observer:
    """`fusionwatch-inference observe` with topics and a group named after `name` and the run."""

    name: str
    database: str
    broker: str
    extra: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    @property
    def group(self) -> str:
        """Its consumer group."""
        return f"{self.name}-{RUN}"

    @property
    def topics(self) -> dict[str, str]:
        """Topic names by role."""
        return {role: f"{self.group}.{role}" for role in ("observations", "labels", "dead_letters")}

    def settings(self) -> dict[str, str]:
        """Its settings by key."""
        return {
            "DATABASE_URL": as_login(self.database, "fusion_worker"),
            "HMAC_KEY": KEY,
            "HMAC_KEY_ID": "k1",
            "KAFKA_BOOTSTRAP_SERVERS": self.broker,
            "CONSUMER_GROUP": self.group,
            "CREATE_TOPICS": "true",
            "TOPIC_PARTITIONS": "2",
            "WRITE_INTERVAL_MS": "100",
            "OBSERVER_PORT": str(self.port),
            **{f"TOPIC_{role.upper()}": topic for role, topic in self.topics.items()},
            **self.extra,
        }

    def start(self, log: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start it as a process and wait until it is ready."""
        self.port = free_port()
        own = {f"FUSIONWATCH_{key}": value for key, value in self.settings().items()}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "inference.cli", "observe"],
                env={**os.environ, "OMP_NUM_THREADS": "1", **own, **(environment or {})},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._ready, 90, "the observer is not ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{log.read_text()[-3000:]}") from None

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the observer has ended"
        return answers_ok(f"http://127.0.0.1:{self.port}/readyz")

    def stop(self, kind: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(kind)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """Make sure that it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> str:
        """A page of its HTTP server."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
            return str(response.read().decode())


@contextmanager
def observing(observer: Observer) -> Iterator[ObserveProgram]:
    """The same program as a thread of this process: quicker to start."""
    settings = {key.lower(): value for key, value in observer.settings().items()}
    program = ObserveProgram(ObserveSettings(_env_file=None, **settings))  # type: ignore[arg-type]
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(program.run()))
    thread.start()
    try:
        wait_until(
            lambda: program.port and answers_ok(f"http://127.0.0.1:{program.port}/readyz"),
            90,
            "the observer is not ready",
        )
        observer.port = program.port or 0
        yield program
    finally:
        program.stop.request()
        thread.join(timeout=60)
    assert ended == [True]


def rows(engine: Engine, statement: Any) -> list[Any]:
    """A query's rows."""
    with engine.connect() as connection:
        return list(connection.execute(statement).all())


def logged(engine: Engine, request_id: str) -> Any:
    """The request's log row, once it is there; there is never more than one."""
    statement = select(prediction_log).where(prediction_log.c.request_id == request_id)
    (row,) = wait_until(lambda: rows(engine, statement), SECONDS, f"{request_id} was not logged")
    return row


def assert_exactly_once(engine: Engine, sent: list[str]) -> None:
    """Every id logged once, with both its modalities, and counted once in the summaries."""
    ids = select(prediction_log.c.request_id)
    wait_until(lambda: len(rows(engine, ids)) >= len(sent), SECONDS, f"not all of {len(sent)} were logged")
    assert sorted(name for (name,) in rows(engine, ids)) == sorted(sent)
    assert rows(engine, select(func.count()).select_from(modality_log)) == [(2 * len(sent),)]
    fused = rows(engine, select(summaries).where(summaries.c.modality == "fused"))
    assert sum(each.counts["rows"] for each in fused) == len(sent)
    assert sum(schema_bins.load(each.bins).rows for each in fused) == len(sent)

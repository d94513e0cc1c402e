"""A real worker as its own process, and a client that talks to it over Kafka."""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from PIL import Image

from demo.servers import as_login, free_port
from inference.settings import WorkerSettings
from inference.wiring import WorkerProgram

CHECKPOINT = Path("demo/checkpoint").resolve()
KEY = "test-key-" * 4
RUN = secrets.token_hex(3)  # a broker may outlive a run: names of topics and groups end with it
# The embedded broker holds a fetch although messages come, and for longer the more bytes it shall gather. Emptied where
# the run's broker is another: workers then fetch as they do by default.
FETCHING = {"FETCH_WAIT_MS": "20", "FETCH_MIN_BYTES": "1"}


@lru_cache
def picture(seed: int = 0, side: int = 64, kind: str = "JPEG") -> bytes:
    """An encoded picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def request(request_id: str | None, **changes: Any) -> dict[str, Any]:
    """A request message with an image and a text; `changes` replace fields."""
    return {
        "schema_version": 1,
        "request_id": request_id,
        "produced_at": datetime.now(UTC).isoformat(),
        "modalities": {
            "image": {"data": base64.b64encode(picture()).decode()},
            "text": {"data": "a red circle left of a blue square"},
        },
        **changes,
    }


def encoded(message: Any) -> bytes | None:
    """A message's value: a dictionary as JSON, bytes as they are."""
    return message if isinstance(message, bytes) or message is None else json.dumps(message).encode()


def wait_until(condition: Callable[[], Any], seconds: float, what: str | Callable[[], str]) -> Any:
    """The condition's first true value. Raises AssertionError at the deadline, saying `what` is wrong then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"after {seconds} s: {what() if callable(what) else what}")


@dataclass
class WorkerProcess:
    """`fusionwatch-inference worker` with topics and a group named after `name` and the run."""

    name: str
    database: str
    broker: str
    log: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    module: str = "inference.cli"
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    @property
    def topics(self) -> dict[str, str]:
        """Topic names by role."""
        return {role: f"{self.group}.{role}" for role in ("requests", "predictions", "labels", "dead_letters")}

    @property
    def group(self) -> str:
        """Its consumer group."""
        return f"{self.name}-{RUN}"

    def settings(self) -> dict[str, str]:
        """Its settings by key."""
        return {
            "DATABASE_URL": as_login(self.database, "fusion_worker"),
            "CHECKPOINT": str(CHECKPOINT),
            "HMAC_KEY": KEY,
            "HMAC_KEY_ID": "k1",
            "KAFKA_BOOTSTRAP_SERVERS": self.broker,
            "CONSUMER_GROUP": self.group,
            **FETCHING,
            "CREATE_TOPICS": "true",
            "TOPIC_PARTITIONS": "2",
            "WORKER_PORT": str(self.port),
            "TORCH_THREADS": "1",
            "CHAMPION_POLL_SECONDS": "0.3",
            **{f"TOPIC_{role.upper()}": topic for role, topic in self.topics.items()},
            **self.extra,
        }

    def environment(self) -> dict[str, str]:
        """Its settings as a process's environment."""
        own = {f"FUSIONWATCH_{key}": value for key, value in self.settings().items()}
        return {**os.environ, "OMP_NUM_THREADS": "1", **own}

    def start(self, *, wait: bool = True) -> None:
        """Start it and wait until it is ready."""
        self.port = free_port()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "worker"],
                env=self.environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if wait:
            try:
                wait_until(self.ready, 90, "the worker is not ready")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.log.read_text()[-3000:]}") from None

    def ready(self) -> bool:
        """Whether /readyz answers 200."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return answers_ok(f"http://127.0.0.1:{self.port}/readyz")

    def get(self, path: str) -> str:
        """A page of its HTTP server."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return str(response.read().decode())

    def stop(self, kind: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(kind)
        return self.process.wait(timeout=40)


@contextmanager
def in_process(worker: WorkerProcess, *, wait: bool = True) -> Iterator[WorkerProgram]:
    """The same worker as a thread of this process: quicker to start, and its program can be looked into.

    `wait` for it to be ready, or only for its pages.
    """
    settings = {key.lower(): value for key, value in worker.settings().items()}
    program = WorkerProgram(WorkerSettings(_env_file=None, **settings))  # type: ignore[arg-type]
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(program.run()))
    thread.start()
    try:
        wait_until(
            lambda: program.port and (not wait or answers_ok(f"http://127.0.0.1:{program.port}/readyz")),
            90,
            "the worker is not ready",
        )
        worker.port = program.port or 0
        yield program
    finally:
        program.stop.request()
        thread.join(timeout=60)
    assert ended == [True]


def answers_ok(url: str) -> bool:
    """Whether a URL answers with a status below 400."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running(worker: WorkerProcess) -> Iterator[WorkerProcess]:
    """A started worker that is gone afterwards."""
    try:
        worker.start()
        yield worker
    finally:
        if worker.process is not None and worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


@contextmanager
def producer(broker: str) -> Iterator[Callable[..., None]]:
    """`send(topic, message, *, partition=None, headers=())`; dictionaries become JSON, bytes go as they are."""
    client = KafkaProducer(bootstrap_servers=broker, max_request_size=40_000_000, enable_idempotence=False)

    def send(topic: str, message: Any, *, partition: int | None = None, headers: Any = ()) -> None:
        client.send(topic, value=encoded(message), key=b"k", partition=partition, headers=list(headers)).get(timeout=20)

    try:
        yield send
    finally:
        client.close()


def read_all(broker: str, topic: str, wanted: Callable[[list[Any]], bool], seconds: float = 20) -> list[Any]:
    """Every message of a topic from its beginning until `wanted` is content with them."""
    client = KafkaConsumer(topic, bootstrap_servers=broker, auto_offset_reset="earliest", group_id=None)
    messages: list[Any] = []
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline and not wanted(messages):
            for records in client.poll(timeout_ms=200).values():
                messages.extend(records)
    finally:
        client.close()
    return messages

"""The producer team: sends scenes at a steady rate, keeps the raw messages, and labels them later."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from kafka import KafkaProducer
from PIL import Image

from demo.cameras import NEW_CAMERA, unchanged
from demo.examples import Example, example_stream, with_shifted_captions
from inference.training.store import LocalStore

JSON, MSGPACK = b"application/json", b"application/msgpack"
# One request in eight is JSON, so that both formats are always on the wire.
JSON_EVERY = 8


@dataclass(frozen=True, slots=True)
class Sent:
    """What the producer remembers of a request: its id, when, and the true class (None where nobody could tell)."""

    request_id: str
    at: datetime
    label: str | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """How requests are made: from which examples, and whether the image or a true label goes along.

    The clock of one producer in four is `ahead`.
    """

    examples: Iterator[Example]
    with_image: bool = True
    labelled: bool = True
    ahead: timedelta = timedelta(0)


def normal(seed: int) -> Scenario:
    """What the model was trained on."""
    return Scenario(example_stream(seed, unchanged))


def image_feed_dead(seed: int) -> Scenario:
    """Captions alone."""
    return Scenario(example_stream(seed, unchanged), with_image=False)


def captions_shifted(seed: int) -> Scenario:
    """Every caption goes to the next request's image."""
    return Scenario(with_shifted_captions(example_stream(seed, unchanged)), labelled=False)


def new_camera(seed: int) -> Scenario:
    """Darker, noisier images of the same scenes."""
    return Scenario(example_stream(seed, NEW_CAMERA))


def clocks_ahead(seed: int, ahead: timedelta) -> Scenario:
    """Some producers' clocks are wrong."""
    return Scenario(example_stream(seed, unchanged), ahead=ahead)


class Traffic:
    """Sends requests from a thread of its own at `rate` per second, in the scenario of the moment."""

    def __init__(self, bootstrap: str, topic: str, store: LocalStore, *, rate: float, seed: int) -> None:
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5, compression_type="lz4")
        self._topic = topic
        self._store = store
        self._rate = rate
        self._run = f"demo-{seed}-{int(time.time())}"
        self._scenario = normal(seed)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._send_on, name="traffic", daemon=True)
        self._extra = 0
        self.sent: list[Sent] = []
        self.error: Exception | None = None

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def switch(self, scenario: Scenario) -> datetime:
        """Make requests by another scenario from now on; returns when that was."""
        with self._lock:
            self._scenario = scenario
            return datetime.now(UTC)

    def send_raw(self, value: bytes, content_type: bytes = JSON, key: bytes | None = None) -> None:
        """Send a message as it is, between the others."""
        self._producer.send(self._topic, value=value, key=key, headers=[("content-type", content_type)])
        self._extra += 1

    @property
    def messages(self) -> int:
        """All messages sent so far, raw ones too."""
        return len(self.sent) + self._extra

    def stop(self) -> None:
        """Stop sending and wait until the broker has everything."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._producer.flush()
        self._producer.close()

    def _send_on(self) -> None:
        start, number = time.monotonic(), 0
        try:
            while not self._stop.is_set():
                due = start + number / self._rate
                if (wait := due - time.monotonic()) > 0:
                    self._stop.wait(wait)
                    continue
                self._send(number)
                number += 1
        except Exception as error:  # noqa: BLE001  # the story's own thread reads it and ends with it
            self.error = error

    def _send(self, number: int) -> None:
        with self._lock:
            scenario = self._scenario
            example = next(scenario.examples)
        request_id = f"{self._run}-{number:06d}"
        now = datetime.now(UTC)
        as_json = number % JSON_EVERY == 0
        produced = now + scenario.ahead if number % 4 == 0 else now
        value = encode(request_id, produced, example, with_image=scenario.with_image, as_json=as_json)
        self._store.put(request_id, value, ".json" if as_json else ".msgpack")
        self._producer.send(
            self._topic,
            value=value,
            key=request_id.encode(),
            headers=[("content-type", JSON if as_json else MSGPACK)],
        )
        self.sent.append(Sent(request_id, now, example.label.name.lower() if scenario.labelled else None))


def encode(request_id: str, at: datetime, example: Example, *, with_image: bool, as_json: bool) -> bytes:
    """A request message of contract version 1."""
    modalities: dict[str, Any] = {"text": {"data": example.caption, "captured_at": at.isoformat()}}
    if with_image:
        buffer = io.BytesIO()
        Image.fromarray(example.image).save(buffer, format="PNG", compress_level=1)
        data: Any = buffer.getvalue()
        modalities["image"] = {
            "data": base64.b64encode(data).decode() if as_json else data,
            "captured_at": at.isoformat(),
        }
    message = {
        "schema_version": 1,
        "request_id": request_id,
        "produced_at": at.isoformat(),
        "source": "demo",
        "modalities": modalities,
    }
    return json.dumps(message).encode() if as_json else msgspec.msgpack.encode(message)


def encode_for_store(request_id: str, example: Example) -> bytes:
    """The message of an example that was never sent."""
    return encode(request_id, datetime.now(UTC), example, with_image=True, as_json=False)


class Labeller:
    """The reviewers: label requests from a given moment on, each some seconds after it was sent."""

    def __init__(self, bootstrap: str, topic: str, traffic: Traffic, *, delay_seconds: float) -> None:
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20)
        self._topic = topic
        self._traffic = traffic
        self._delay = delay_seconds
        self._stop = threading.Event()
        self._since: datetime | None = None
        self._next = 0
        self._thread = threading.Thread(target=self._label_on, name="labeller", daemon=True)
        self.labels = 0
        self.said: Callable[[str], str] = str  # what is said of a true label

    def start(self, since: datetime) -> None:
        """Label everything sent since then, and go on with what comes."""
        self._since = since
        self._thread.start()

    def stop(self) -> None:
        """Stop labelling and wait until the broker has everything."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._producer.flush()
        self._producer.close()

    def _label_on(self) -> None:
        while not self._stop.wait(0.2):
            now = datetime.now(UTC)
            sent = self._traffic.sent
            while self._next < len(sent) and (now - sent[self._next].at).total_seconds() > self._delay:
                self._label(sent[self._next], now)
                self._next += 1

    def _label(self, sent: Sent, now: datetime) -> None:
        if sent.label is None or self._since is None or sent.at < self._since:
            return
        message = {
            "schema_version": 1,
            "request_id": sent.request_id,
            "label": self.said(sent.label),
            "labelled_at": now.isoformat(),
            "source": "human_review",
            "annotator": "reviewer-7",
        }
        self._producer.send(self._topic, value=json.dumps(message).encode(), key=sent.request_id.encode())
        self.labels += 1

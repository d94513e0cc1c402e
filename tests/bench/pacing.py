"""Traffic at a set pace, and what a worker's answers, costs and memory look like under it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer

from tests.bench.rig import MSGPACK, PARTITIONS, Rig, cpu_seconds, member, request, resident_bytes, tree
from tests.support.worker import WorkerProcess

WARM_SECONDS = 4.0
TICK_SECONDS = 0.01
SETTLE_SECONDS = 2.0


class Pacer:
    """Sends requests at a steady rate from a thread, a tick's worth at a time to one partition.

    It shares the machine with what is measured: a message at a time would cost more than the worker does.
    """

    def __init__(self, broker: str, topic: str, images: list[bytes], rate: float) -> None:
        """`sent` counts requests."""
        self.sent = 0
        self._producer = KafkaProducer(
            bootstrap_servers=broker, enable_idempotence=False, batch_size=1_000_000, linger_ms=2,
            metrics_enabled=False,
        )  # fmt: skip
        self._topic = topic
        self._images = images
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Pacer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._producer.close()

    def stop(self) -> None:
        """Send no more. Safe to call again."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.perf_counter()
        ticks = 0
        while not self._stop.wait(TICK_SECONDS):
            ticks += 1
            while self.sent < (time.perf_counter() - began) * self._rate:
                value = request(self.sent, self._images[self.sent % len(self._images)])
                self._producer.send(self._topic, value, partition=ticks % PARTITIONS, headers=MSGPACK)
                self.sent += 1


def paced(servers: Rig, worker: WorkerProcess, images: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Latency at a steady rate, less the model's own time, and CPU a request.

    `total` is from when the broker had a request until it had the answer, `added` what of that is not the model's own
    time, and `inside` what of that passed after the worker had received the request. Both are read when the measurement
    is over, so that their reader takes no part in it.
    """
    with member(worker, 0) as running, Pacer(worker.broker, worker.topics["requests"], images, rate) as pacer:
        time.sleep(WARM_SECONDS)
        used, began = _cpu(running), time.time()
        time.sleep(seconds - WARM_SECONDS)
        spent, ended = _cpu(running) - used, time.time()
        pacer.stop()
        time.sleep(SETTLE_SECONDS)
    arrived = {
        msgspec.msgpack.decode(record.value)["request_id"]: record.timestamp / 1000
        for record in _records(worker, "requests")
    }
    rows, answered = [], 0
    for record in _records(worker, "predictions"):
        answer, sent = msgspec.json.decode(record.value), record.timestamp / 1000
        took, since = answer["latency_ms"], arrived[answer["request_id"]]
        answered += began < sent <= ended
        if began < since and sent <= ended:
            rows.append(((sent - since) * 1000, took["encode"] + took["fuse"], took["total"]))
    total, model, inside = np.array(rows).T
    added = total - model
    return {
        "requests_per_second": rate,
        "answered_per_second": answered / (ended - began),
        "answers": len(rows),
        "total_p95_ms": float(np.percentile(total, 95)),
        "added_p50_ms": float(np.percentile(added, 50)),
        "added_p95_ms": float(np.percentile(added, 95)),
        "inside_p50_ms": float(np.percentile(inside - model, 50)),
        "inside_p95_ms": float(np.percentile(inside - model, 95)),
        "model_p50_ms": float(np.percentile(model, 50)),
        "worker_cpu_us": spent / max(1, answered) * 1e6,
    }


def _records(worker: WorkerProcess, role: str) -> Iterator[Any]:
    """All records of a topic of a worker that has ended."""
    client = KafkaConsumer(
        worker.topics[role], bootstrap_servers=worker.broker, auto_offset_reset="earliest", consumer_timeout_ms=1000
    )
    yield from client
    client.close()


def overloaded(
    servers: Rig, worker: WorkerProcess, images: list[bytes], seconds: float, *, factor: float, limit: int
) -> dict[str, Any]:
    """The worker's memory under `factor` times the traffic that it can take, sampled every second."""
    with member(worker, 0) as running:
        idle = resident_bytes(running)
        capacity = _capacity(servers, worker, images)
        samples = []
        with Pacer(worker.broker, worker.topics["requests"], images, factor * capacity) as pacer:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(1.0)
                samples.append(resident_bytes(running))
            sent = pacer.sent
    return {
        "seconds": seconds,
        "capacity_per_second": capacity,
        "sent": sent,
        "idle_mb": idle / 1e6,
        "peak_mb": max(samples) / 1e6,
        "last_mb": samples[-1] / 1e6,
        "inflight_limit_mb": limit / 1e6,
        "bound_mb": (1.5 * idle + limit) / 1e6,
    }


def _capacity(servers: Rig, worker: WorkerProcess, images: list[bytes]) -> float:
    """Requests per second that the running worker writes off a short backlog."""
    count = 60
    servers.backlog(worker.topics["requests"], count, images)
    began = time.perf_counter()
    servers.wait_written(worker, count)
    return count / (time.perf_counter() - began)


def _cpu(running: WorkerProcess) -> float:
    return sum(cpu_seconds(process) for process in tree(running))

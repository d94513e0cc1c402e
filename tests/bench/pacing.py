"""Traffic at a set pace, and what a worker's answers, costs and memory look like under it."""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.bench.rig import MSGPACK, PARTITIONS, Rig, cpu_seconds, member, request, resident_bytes, tree
from tests.support.worker import WorkerProcess

WARM_SECONDS = 4.0


class Pacer:
    """Sends requests at a steady rate from a thread and notes when each left."""

    def __init__(self, broker: str, topic: str, images: list[bytes], rate: float) -> None:
        self.sent: dict[str, float] = {}
        self._producer = KafkaProducer(bootstrap_servers=broker, enable_idempotence=False, linger_ms=0)
        self._topic = topic
        self._images = images
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Pacer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.close()

    def _run(self) -> None:
        began = time.perf_counter()
        number = 0
        while not self._stop.is_set():
            value = request(number, self._images[number % len(self._images)])
            self.sent[msgspec.msgpack.decode(value)["request_id"]] = time.perf_counter()
            self._producer.send(self._topic, value, partition=number % PARTITIONS, headers=MSGPACK)
            number += 1
            time.sleep(max(0.0, began + number / self._rate - time.perf_counter()))


def paced(servers: Rig, worker: WorkerProcess, images: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Latency at a steady rate, less the model's own time, and CPU a request.

    `added` is what the worker adds, from receiving a message to handing over its answer; `transport` what lies between
    that and sender and reader: the broker, and two clients that share the machine.
    """
    arrived: dict[str, tuple[float, float, float]] = {}
    with member(worker, 0) as running, Pacer(worker.broker, worker.topics["requests"], images, rate) as pacer:
        client = KafkaConsumer(bootstrap_servers=worker.broker, auto_offset_reset="earliest", fetch_max_wait_ms=5)
        client.assign([TopicPartition(worker.topics["predictions"], number) for number in range(PARTITIONS)])
        client.seek_to_beginning()
        began = time.perf_counter()
        used = _cpu(running)
        while time.perf_counter() < began + seconds:
            for records in client.poll(timeout_ms=100).values():
                now = time.perf_counter()
                for record in records:
                    answer = msgspec.json.decode(record.value)
                    took = answer["latency_ms"]
                    arrived[answer["request_id"]] = (now, took["encode"] + took["fuse"], took["total"])
        spent = _cpu(running) - used
        client.close()
        sent = dict(pacer.sent)
    lately = sum(at > began + WARM_SECONDS for at, _, _ in arrived.values())
    steady = {key: at for key, at in arrived.items() if sent[key] > began + WARM_SECONDS}
    model, spent_ms = (np.array([row[place] for row in steady.values()]) for place in (1, 2))
    total = np.array([(at - sent[key]) * 1000 for key, (at, _, _) in steady.items()])
    added = spent_ms - model
    return {
        "requests_per_second": rate,
        "answered_per_second": lately / (seconds - WARM_SECONDS),
        "answers": len(added),
        "added_p50_ms": float(np.percentile(added, 50)),
        "added_p95_ms": float(np.percentile(added, 95)),
        "model_p50_ms": float(np.percentile(model, 50)),
        "transport_p50_ms": float(np.percentile(total - spent_ms, 50)),
        "total_p95_ms": float(np.percentile(total, 95)),
        "worker_cpu_us": spent / max(1, len(arrived)) * 1e6,
    }


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
            sent = len(pacer.sent)
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

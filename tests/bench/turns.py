"""A worker beside bare forward passes of its model, in turns of seconds: what else the machine does falls on both.

While one works the other stands still: the worker's processes are stopped (SIGSTOP) during bare passes.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from kafka import KafkaConsumer, TopicPartition

from inference.collate import collate
from inference.modalities.base import modalities
from inference.models.card import load_card
from inference.models.checkpoint import load_checkpoint
from inference.predictor import Predictor
from tests.bench.rig import CAPTIONS, PARTITIONS, Rig, member, model_cores, tree
from tests.support.worker import WorkerProcess

WARM_SECONDS = 5.0
# The longest wait for the next answers: a batch of a large model takes seconds.
ANSWER_SECONDS = 60.0
LOOK_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Turns:
    """How many, and how long each of the two works in one."""

    count: int
    worker_seconds: float
    bare_seconds: float


class Bare:
    """Forward passes of one batch on one thread, everything decoded, tokenized and collated before."""

    def __init__(self, folder: Path, images: list[bytes], batch: int) -> None:
        torch.set_num_threads(1)
        card, known = load_card(folder), modalities()
        rows = []
        for index in range(batch):
            picture = known["image"].decode(images[index % len(images)]).value
            rows.append(card.prepare({"image": picture, "text": CAPTIONS[index % len(CAPTIONS)]}))
        self._ready = collate(rows, card.blanks)
        self.batch = batch
        cpu = torch.device("cpu")
        self._predictor = Predictor(load_checkpoint(folder, cpu, ()), cpu)
        self._predictor.run(self._ready)

    def rate(self, seconds: float) -> float:
        """Requests per second of as many passes as it takes."""
        passes, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            self._predictor.run(self._ready)
            passes += 1
        return passes * self.batch / (time.perf_counter() - began)


def in_turns(servers: Rig, worker: WorkerProcess, bare: Bare, images: list[bytes], turns: Turns) -> dict[str, Any]:
    """Requests per second of the worker over those of bare passes right before and after: the median of the turns.

    The worker answers a backlog. Where its model has cores of its own (`MODEL_CORES`), database, broker and this
    process stay off them too while it works. Raises RuntimeError where no more answers come.
    """
    everywhere = os.sched_getaffinity(0)
    seconds = turns.count * turns.worker_seconds + WARM_SECONDS
    count = int(1.4 * bare.rate(turns.bare_seconds) * seconds) + 4 * turns.count * bare.batch
    servers.backlog(worker.topics["requests"], count, images)
    answered = _Answered(worker)
    with member(worker, 0) as running:
        answered.change()
        time.sleep(WARM_SECONDS)
        with servers.off(model_cores(running), [running]):
            rates, ceilings, began = [], [_aside(running, bare, turns.bare_seconds, everywhere)], servers.cpu([running])
            first = answered.count()
            for _ in range(turns.count):
                rates.append(_rate(answered, turns.worker_seconds))
                ceilings.append(_aside(running, bare, turns.bare_seconds, everywhere))
            done, spent = answered.count() - first, servers.cpu([running])
    answered.close()
    around = [statistics.mean(pair) for pair in pairwise(ceilings)]
    shares = [rate / ceiling for rate, ceiling in zip(rates, around, strict=True)]
    cpu = [(late - early) / done * 1e6 for early, late in zip(began, spent, strict=True)]
    return {
        "bare_per_second": statistics.median(ceilings),
        "worker_per_second": statistics.median(rates),
        "efficiency": statistics.median(shares),
        "turns": {"bare": ceilings, "worker": rates, "efficiency": shares},
        "cpu_us": dict(zip(("worker", "database", "broker"), cpu, strict=True)),
        "batch": bare.batch,
        "torch_threads": 1,
    }


def _aside(running: WorkerProcess, bare: Bare, seconds: float, cores: set[int]) -> float:
    """Bare passes on these cores while the worker stands still."""
    processes, kept = tree(running), os.sched_getaffinity(0)
    for process in processes:
        process.suspend()
    try:
        os.sched_setaffinity(0, cores)
        return bare.rate(seconds)
    finally:
        os.sched_setaffinity(0, kept)
        for process in processes:
            process.resume()


def _rate(answered: _Answered, seconds: float) -> float:
    """Answers per second from one batch's answers to another's."""
    first, began = answered.change()
    time.sleep(seconds)
    last, ended = answered.change()
    return (last - first) / (ended - began)


class _Answered:
    """How many answers a worker's topic has."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._consumer = KafkaConsumer(bootstrap_servers=worker.broker)
        self._partitions = [TopicPartition(worker.topics["predictions"], number) for number in range(PARTITIONS)]

    def count(self) -> int:
        return sum(self._consumer.end_offsets(self._partitions).values())

    def change(self) -> tuple[int, float]:
        """The count once it has grown, and when that was seen. Raises RuntimeError where it does not grow."""
        before, until = self.count(), time.monotonic() + ANSWER_SECONDS
        while (now := self.count()) == before:
            if time.monotonic() > until:
                raise RuntimeError(
                    f"no more answers after {now}: the worker stands still, or its backlog was too short"
                )
            time.sleep(LOOK_SECONDS)
        return now, time.perf_counter()

    def close(self) -> None:
        self._consumer.close()

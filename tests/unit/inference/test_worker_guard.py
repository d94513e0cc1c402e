"""When the worker takes its consumer for stuck and builds another."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock

import pytest
from kafka.errors import KafkaConnectionError

from inference.inflight import InFlight
from inference.record import Partition
from inference.worker import Worker

P = Partition("requests", 0)
SECONDS = 0.05


@dataclass
class Consumer:
    """A group consumer that reads nothing, with a message to read."""

    away: bool = False
    lag: int = 1
    forgotten: bool = False
    rebuilt: int = 0
    unbuildable: bool = False

    def behind(self) -> tuple[dict[Partition, int], dict[Partition, int]]:
        if self.away:
            raise KafkaConnectionError
        return {P: 5}, {P: self.lag}

    def left_out(self, seconds: float) -> bool:
        assert seconds == SECONDS
        return self.forgotten

    def rebuild(self) -> None:
        if self.unbuildable:
            raise KafkaConnectionError
        self.rebuilt += 1


@dataclass
class Observer:
    stalls: list[Partition] = field(default_factory=list)

    def stalled(self, partition: Partition) -> None:
        self.stalls.append(partition)


def guarded(consumer: Consumer, observer: Observer, inflight: InFlight) -> Worker:
    other = dict.fromkeys(("read_offsets", "record_gaps", "serving", "opening", "batches", "answers", "write"), Mock())
    rest: dict[str, Any] = {**other, "tracer": Mock(), "stop": Mock(), "pulse": Mock(), "channels": {}}
    parts: dict[str, Any] = {"consumer": consumer, "observer": observer, "inflight": inflight}
    return Worker(**parts, **rest, stall_seconds=SECONDS)


def look(worker: Worker, times: int = 2) -> None:
    for _ in range(times):
        time.sleep(SECONDS)
        worker._guard()


@pytest.mark.parametrize(("lag", "stalls"), [(1, 1), (-3, 1), (0, 0)])
def test_a_consumer_that_stands_still_beside_something_to_read_is_rebuilt(lag: int, stalls: int) -> None:
    consumer, observer = Consumer(lag=lag), Observer()
    look(guarded(consumer, observer, InFlight(10, 10)))
    assert (consumer.rebuilt, observer.stalls) == (stalls, [P] * stalls)


def test_a_member_that_its_group_forgot_joins_anew() -> None:
    consumer, observer = Consumer(lag=0, forgotten=True), Observer()
    look(guarded(consumer, observer, InFlight(10, 10)), 1)
    assert (consumer.rebuilt, observer.stalls) == (1, [])


def test_one_that_is_told_to_wait_is_not() -> None:
    consumer, observer, inflight = Consumer(), Observer(), InFlight(1, 10)
    inflight.add(1, 1)
    look(guarded(consumer, observer, inflight))
    assert (consumer.rebuilt, observer.stalls) == (0, [])


def test_time_without_a_broker_does_not_count() -> None:
    consumer, observer = Consumer(), Observer()
    worker = guarded(consumer, observer, InFlight(10, 10))
    look(worker, 1)
    consumer.away = True
    look(worker)
    consumer.away = False
    look(worker, 1)
    assert consumer.rebuilt == 0
    look(worker, 1)
    assert (consumer.rebuilt, observer.stalls) == (1, [P])


def test_a_broker_that_goes_away_just_then_costs_no_worker_and_the_next_try_builds_one() -> None:
    consumer = Consumer(unbuildable=True)
    worker = guarded(consumer, Observer(), InFlight(10, 10))
    look(worker, 3)
    assert consumer.rebuilt == 0
    consumer.unbuildable = False
    look(worker, 3)
    assert consumer.rebuilt > 0

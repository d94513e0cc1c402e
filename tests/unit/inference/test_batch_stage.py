"""A batch that is due by age alone is worth nothing to a model that is busy: others join it meanwhile."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

from inference.batching import MicroBatcher
from inference.courtesy import Courtesy
from inference.engine import Engine
from inference.errors import Code, Refusal
from inference.inflight import InFlight
from inference.outcome import DeadLetter
from inference.pipeline import Opened
from inference.record import Record
from inference.retry import Stop
from inference.stages.channel import Channel
from inference.stages.forward import BatchStage
from inference.stages.parcel import Batch, Polled
from inference.tracing import Tracer
from tests.support.local import LocalServing
from tests.support.worker import wait_until
from tests.unit.inference.tiny import tiny_card


class Busy:
    outstanding = 1


def polled(offset: int, serving: Any, age: float = 0.0) -> Polled:
    record = Record("t", 0, offset, None, b"?", (), time.monotonic(), datetime.now(UTC))
    opened: Future[list[Opened]] = Future()
    opened.set_result([DeadLetter(record, Refusal(Code.NOT_DECODABLE, "no"))])
    return Polled([record], serving, 0, time.monotonic() - age, opened)


def start(source: Channel[Polled], target: Channel[Batch], size: int, wait: float) -> threading.Thread:
    stage = BatchStage(
        source,
        target,
        batch=MicroBatcher[Opened](size, wait, time.monotonic),
        engine=Engine(Stop(1.0), failed=lambda _: None, seconds=1.0),
        inflight=InFlight(100, 1_000_000),
        tracer=Tracer(),
        courtesy=Courtesy(),
    )
    thread = threading.Thread(target=stage.run, daemon=True)
    thread.start()
    return thread


def test_an_aged_batch_grows_until_the_model_is_idle_and_a_full_one_does_not_wait() -> None:
    model, source, target = Busy(), Channel[Polled](10), Channel[Batch](10)
    serving = LocalServing(tiny_card(), model)
    thread = start(source, target, 3, 0.0)
    for offset in range(5):
        source.put(polled(offset, serving))
    full = target.get(10)
    assert full is not None
    assert [message.record.offset for message in full.opened] == [0, 1, 2]
    wait_until(lambda: len(source) == 0, 10, "the stage does not take")
    model.outstanding = 0
    source.nudge()
    aged = target.get(10)
    assert aged is not None
    assert [message.record.offset for message in aged.opened] == [3, 4]
    source.end()
    thread.join(10)
    assert not thread.is_alive()


def test_what_a_message_waited_since_it_could_be_read_counts() -> None:
    model, source, target = Busy(), Channel[Polled](10), Channel[Batch](10)
    model.outstanding = 0
    serving = LocalServing(tiny_card(), model)
    thread = start(source, target, 100, 600.0)
    source.put(polled(0, serving, age=599.9))  # so long the broker gathered, and it was decoded
    aged = target.get(10)
    assert aged is not None
    assert [message.record.offset for message in aged.opened] == [0]
    source.put(polled(1, serving))
    assert target.get(0.3) is None
    source.end()
    thread.join(10)


def test_an_aged_batch_of_a_backlog_leaves_whole() -> None:
    model, source, target = Busy(), Channel[Polled](10), Channel[Batch](10)
    model.outstanding = 0
    serving = LocalServing(tiny_card(), model)
    for offset in range(5):
        source.put(polled(offset, serving, age=600.0))
    thread = start(source, target, 3, 1.0)
    sizes = [len(batch.opened) for batch in (target.get(10), target.get(10)) if batch is not None]
    assert sizes == [3, 2]
    source.end()
    thread.join(10)
    assert not thread.is_alive()

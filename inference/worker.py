"""The request path: overlapped stages between two queues of the outside world, in an order that loses nothing.

    poll (this thread) -> open (a pool) -> batch -> answer -> write

A batch is answered first (and its dead letters sent), then written in one transaction together with its next offsets,
then committed to Kafka for its tools' sake. A crash in between repeats the batch: answers may repeat under the same
key, rows cannot, since the request id and the offset are checked in the transaction.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from kafka.errors import KafkaError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from inference import log
from inference.consumer import GroupConsumer
from inference.errors import StaleWriteError
from inference.gaps import Gap
from inference.inflight import InFlight
from inference.observe import Observer
from inference.offsets import Move, ReadOffsets
from inference.pulse import Pulse
from inference.record import Partition
from inference.retry import Stop, until_done
from inference.serving import Serving
from inference.stages.channel import Channel, EndedError
from inference.stages.forward import AnswerStage, BatchStage
from inference.stages.open import OpenStage
from inference.stages.write import WriteStage
from inference.stall import StallGuard
from inference.tracing import Tracer

_log = logging.getLogger(__name__)
IDLE_SECONDS = 0.2
BLOCKED_SECONDS = 0.5
LOOK_SECONDS = 1.0
POLL_RECORDS = 1000
GUARD_LOOKS = 6  # in the time after which a consumer counts as stalled
Result = TypeVar("Result")
RecordGaps = Callable[[Sequence[Gap]], Mapping[Partition, Move]]


class Worker:
    """Serves one consumer group member until it is asked to stop."""

    def __init__(
        self,
        *,
        consumer: GroupConsumer,
        read_offsets: ReadOffsets,
        record_gaps: RecordGaps,
        serving: Callable[[], Serving],
        opening: OpenStage,
        batches: BatchStage,
        answers: AnswerStage,
        write: WriteStage,
        inflight: InFlight,
        observer: Observer,
        tracer: Tracer,
        stop: Stop,
        channels: Mapping[str, Channel[Any]],
        stall_seconds: float,
        pulse: Pulse,
    ) -> None:
        """`serving` tells the model to use from now on; `channels` maps each stage to the channel it takes from.

        A consumer that stands still for `stall_seconds` although there is something to read, or waits as long for its
        part of the group's partitions, is rebuilt.
        """
        self._consumer = consumer
        self._read_offsets = read_offsets
        self._record_gaps = record_gaps
        self._serving = serving
        self._opening = opening
        self._write = write
        self._inflight = inflight
        self._observer = observer
        self._tracer = tracer
        self._stop = stop
        self._pulse = pulse
        self._channels = channels
        self._failure: BaseException | None = None
        self._looked = self._guarded_at = time.monotonic()
        self._stall_seconds = stall_seconds
        self._guard_seconds = stall_seconds / GUARD_LOOKS
        self._stalls = StallGuard(stall_seconds)
        self._threads = [
            threading.Thread(target=self._guarded, args=(stage.run,), name=name)
            for name, stage in (("batch", batches), ("answer", answers), ("write", write))
        ]

    def run(self) -> None:
        """Serve until a stop is requested, then finish what is in hand within its deadline and leave the group.

        Raises whatever a stage ended by; StoppingError where something in hand had to be left.
        """
        for thread in self._threads:
            thread.start()
        try:
            with suppress(EndedError):  # a stage broke: its error is raised below
                while not self._stop.requested:
                    self._step()
            self._opening.end()
            while any(thread.is_alive() for thread in self._threads) and not self._stop.overdue:
                self._keep_alive()
                self._tell_committed()
                self._threads[-1].join(timeout=0.1)
        finally:
            self._abandon()
            for thread in self._threads:
                thread.join(timeout=5)
            self._tell_committed()
            self._opening.close()
            self._consumer.close()
        if self._failure is not None:
            raise self._failure

    @property
    def assigned(self) -> bool:
        """Whether the group has given this worker its part and its positions are known."""
        return self._consumer.assigned and not self._consumer.unsynced

    def _guarded(self, run: Callable[[], None]) -> None:
        """Run a stage; where it breaks, the others must not wait for it."""
        try:
            run()
        except EndedError:
            pass  # another stage broke, or the deadline passed
        except BaseException as error:  # noqa: BLE001  # a thread's edge: the error is raised by `run`
            self._failure = self._failure or error
            self._stop.request()
            self._abandon()

    def _abandon(self) -> None:
        """Free every stage that waits for another."""
        for channel in self._channels.values():
            channel.abandon()

    def _keep_alive(self) -> None:
        self._pulse.beat()
        self._consumer.keep_alive()

    def _step(self) -> None:
        self._pulse.beat()
        if self._write.stale:
            self._write.stale = False
            self._consumer.resync()
        if self._consumer.unsynced:
            self._sync()
        self._tell_committed()
        if self._inflight.room == 0 and not self._inflight.wait_for_room(BLOCKED_SECONDS):
            self._keep_alive()
        else:
            self._poll()
        if time.monotonic() > self._looked + LOOK_SECONDS:
            self._looked = time.monotonic()
            queues = {name: len(channel) for name, channel in self._channels.items()}
            self._observer.inflight(self._inflight.requests, self._inflight.bytes, queues)
            self._observer.lag(self._consumer.lag())
        if time.monotonic() > self._guarded_at + self._guard_seconds:
            self._guarded_at = time.monotonic()
            self._guard()

    def _guard(self) -> None:
        """Rebuild a consumer that stands still although there is something to read, or that its group forgot."""
        try:
            positions, lag = self._consumer.behind()
            left_out = self._consumer.left_out(self._stall_seconds)
        except KafkaError:  # the broker is away: nothing can be read
            self._stalls.reset()
            return
        waiting = positions.keys() if self._inflight.room == 0 else ()
        stalled = self._stalls.observe(positions, lag, waiting)
        for partition in stalled:
            self._observer.stalled(partition)
        if left_out:
            _log.warning("the group gives this member no part: its consumer is rebuilt")
        if stalled or left_out:
            try:
                self._consumer.rebuild()
            except KafkaError as error:  # the broker went away just now: it will stand still again
                _log.warning("the consumer was not rebuilt", extra=log.fields(error=type(error).__name__))
            self._stalls.reset()

    def _poll(self) -> None:
        begun = time.monotonic()
        try:
            records = self._consumer.poll(IDLE_SECONDS, min(POLL_RECORDS, max(1, self._inflight.room)))
        except KafkaError as error:
            name = type(error).__name__
            _log.warning("reading failed", extra=log.fields(error=name))
            self._tracer.poll(self._consumer.topic, (), begun, time.monotonic(), name)
            self._stop.wait(1.0)
            return
        if not records:
            return
        self._tracer.poll(self._consumer.topic, records, begun, time.monotonic())
        self._inflight.add(len(records), sum(len(record.value or b"") for record in records))
        since = self._consumer.readable(begun, records[0].received)
        self._opening.submit(records, self._serving(), self._consumer.epoch, since)

    def _sync(self) -> None:
        gaps = self._until_done(lambda: self._consumer.sync(self._read_offsets), "reading offsets", SQLAlchemyError)
        self._observer.rebalanced()
        self._stalls.reset()
        if not gaps:
            return
        try:
            moves = self._until_done(lambda: self._record_gaps(gaps), "recording gaps", DBAPIError)
        except StaleWriteError:
            self._consumer.resync()  # another worker was faster
            return
        self._consumer.stored(moves)
        for gap in gaps:
            self._observer.gap(gap)

    def _tell_committed(self) -> None:
        while not self._write.committed.empty():
            self._consumer.commit(self._write.committed.get())

    def _until_done(self, action: Callable[[], Result], name: str, error: type[Exception]) -> Result:
        return until_done(
            action,
            name=name,
            on=(error, KafkaError),
            stop=self._stop,
            between=self._keep_alive,
            failed=self._observer.failed,
        )

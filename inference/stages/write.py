"""The last stage: waits for the broker's word on the answers, then writes rows and offsets in one transaction."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from kafka.errors import KafkaError
from sqlalchemy.exc import DBAPIError

from inference.answers import AnswerWriter
from inference.batching import MicroBatcher
from inference.consumer import GroupConsumer
from inference.errors import StaleWriteError
from inference.inflight import InFlight
from inference.observe import Observer
from inference.offsets import Move
from inference.outcome import DeadLetter
from inference.publisher import Publisher
from inference.record import Partition
from inference.recorder import Recorder, Written
from inference.retry import Stop, until_done
from inference.stages.channel import Channel, EndedError
from inference.stages.parcel import Answered
from inference.tracing import Tracer

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class WriteStage:
    """Collects answered batches into transactions by number of rows and age.

    `committed` holds the moves of every transaction, for the polling thread to tell Kafka; `stale` is set when
    another worker had moved an offset: the polling thread must read the positions anew.
    """

    def __init__(
        self,
        source: Channel[Answered],
        *,
        waiting: MicroBatcher[Answered],
        consumer: GroupConsumer,
        answers: AnswerWriter,
        publisher: Publisher,
        recorder: Recorder,
        observer: Observer,
        inflight: InFlight,
        tracer: Tracer,
        stop: Stop,
    ) -> None:
        self._source = source
        self._waiting = waiting
        self._consumer = consumer
        self._answers = answers
        self._publisher = publisher
        self._recorder = recorder
        self._observer = observer
        self._inflight = inflight
        self._tracer = tracer
        self._stop = stop
        self._epoch = 0
        self._refused = -1  # the epoch of which a write was refused: nothing more of it may be written
        self._partitions: set[Partition] = set()
        self.committed: queue.SimpleQueue[Mapping[Partition, Move]] = queue.SimpleQueue()
        self.stale = False

    def run(self) -> None:
        """Work until the source ends, then write what waits."""
        try:
            while True:
                answered = self._source.get(self._waiting.remaining if len(self._waiting) else None)
                if answered is not None:
                    if not self._waiting.fits(weight=len(answered.outcomes)):
                        self._flush()
                    self._waiting.add(answered, weight=len(answered.outcomes))
                if self._waiting.due:
                    self._flush()
        except EndedError:
            self._flush()

    def _flush(self) -> None:
        """Write what waits, however long the database is away: offsets stand still meanwhile."""
        parcels = self._waiting.take()
        current = [parcel for parcel in parcels if self._refused != parcel.epoch == self._consumer.epoch]
        try:
            for parcel in current:
                self._acknowledge(parcel)
            if current:
                self._write(current)
        finally:
            for parcel in parcels:
                parcel.trace.end(time.monotonic(), "dropped")  # of one that was written, nothing is left to end
                self._inflight.release(len(parcel.outcomes), parcel.size)

    def _acknowledge(self, parcel: Answered) -> None:
        sending = parcel.sending

        def wait() -> None:
            nonlocal sending
            try:
                sending.wait()
            except KafkaError:
                sending = self._publisher.start(sending.messages)
                raise

        self._until_done(wait, "sending answers", KafkaError)
        parcel.trace.sent(time.monotonic())
        self._observer.answered(parcel.outcomes)

    def _write(self, parcels: Sequence[Answered]) -> None:
        outcomes = [outcome for parcel in parcels for outcome in parcel.outcomes]
        epoch, begun = parcels[0].epoch, time.monotonic()
        moves: dict[Partition, Move] = {}

        def attempt() -> Written | None:
            nonlocal moves
            with self._consumer.lock:
                if epoch != self._consumer.epoch:
                    return None  # the partitions may be another worker's by now: whoever owns them does it again
                self._follow(epoch)
                moves = self._consumer.moves([outcome.record for outcome in outcomes])
                written = self._recorder.write(outcomes, moves, self._send)
                self._consumer.stored(moves)
                return written

        try:
            written = self._until_done(attempt, "writing", DBAPIError, KafkaError)
        except StaleWriteError as error:
            _log.warning("stale write refused: %s", error)
            self._observer.stale()
            self._refused = epoch  # what follows would move other partitions past what was dropped here
            self.stale = True
            return
        if written is not None:
            self._partitions |= moves.keys()
            self.committed.put(moves)
            self._observer.written(written)
            for letter in written.refused:
                self._observer.refused(letter)
            self._tracer.wrote([parcel.trace for parcel in parcels], begun, time.monotonic(), written.logged)

    def _send(self, letters: Sequence[DeadLetter]) -> None:
        """Send on what the database itself refused. Raises KafkaError."""
        self._publisher.send([self._answers.encode(letter) for letter in letters])

    def _follow(self, epoch: int) -> None:
        """Where the assignment changed, drop the sums of what was held: whoever owns a partition continues it."""
        if epoch == self._epoch:
            return
        for partition in self._partitions:
            self._recorder.forget(partition)
        self._partitions.clear()
        self._epoch = epoch

    def _until_done(self, action: Callable[[], Result], name: str, *errors: type[Exception]) -> Result:
        return until_done(action, name=name, on=errors, stop=self._stop, failed=self._observer.failed)

"""The request loop: read, predict, answer, write, in an order that loses nothing and writes nothing twice.

A batch is answered first (and its dead letters sent), then written in one transaction together with its next offsets,
then committed to Kafka for its tools' sake. A crash in between repeats the batch: answers may repeat under the same
key, rows cannot, since the request id and the offset are checked in the transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from kafka.errors import KafkaError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from inference import log
from inference.answers import AnswerWriter
from inference.batching import MicroBatcher
from inference.consumer import GroupConsumer
from inference.errors import StaleWriteError
from inference.observe import Observer
from inference.offsets import Move
from inference.outcome import Outcome
from inference.pipeline import Pipeline
from inference.publisher import Publisher
from inference.record import Partition, Record
from inference.recorder import Recorder
from inference.retry import Stop, until_done

_log = logging.getLogger(__name__)
IDLE_SECONDS = 0.2
Result = TypeVar("Result")
ReadOffsets = Callable[[Iterable[Partition]], Mapping[Partition, int]]


class Worker:
    """Serves one consumer group member until it is asked to stop."""

    def __init__(
        self,
        *,
        consumer: GroupConsumer,
        read_offsets: ReadOffsets,
        pipeline: Pipeline,
        answers: AnswerWriter,
        publisher: Publisher,
        recorder: Recorder,
        observer: Observer,
        batch: MicroBatcher[Record],
        unwritten: MicroBatcher[Outcome],
        stop: Stop,
    ) -> None:
        """`batch` collects messages for the model, `unwritten` outcomes for the database."""
        self._consumer = consumer
        self._read_offsets = read_offsets
        self._pipeline = pipeline
        self._answers = answers
        self._publisher = publisher
        self._recorder = recorder
        self._observer = observer
        self._batch = batch
        self._unwritten = unwritten
        self._stop = stop
        consumer.before_rebalance = self._before_rebalance

    def run(self) -> None:
        """Serve until a stop is requested, then finish what is in hand within its deadline and leave the group."""
        try:
            while not self._stop.requested:
                self._step()
            self._predict()
            self._write()
        finally:
            self._consumer.close()

    @property
    def assigned(self) -> bool:
        """Whether the group has given this worker its part and its positions are known."""
        return self._consumer.assigned and not self._consumer.unsynced

    def _step(self) -> None:
        if self._consumer.unsynced:
            self._sync()
        try:
            records = self._consumer.poll(self._wait_seconds(), min(self._batch.room, self._unwritten.room))
        except KafkaError as error:
            _log.warning("reading failed", extra=log.fields(error=type(error).__name__))
            self._stop.wait(1.0)
            return
        for record in records:
            self._batch.add(record)
        if self._batch.due:
            self._predict()
        if self._unwritten.due:
            self._write()
        self._observer.loop(len(self._batch) + len(self._unwritten), self._consumer.lag())

    def _wait_seconds(self) -> float:
        waits = [box.remaining for box in (self._batch, self._unwritten) if len(box)]
        return min([IDLE_SECONDS, *waits])

    def _sync(self) -> None:
        gaps = self._until_done(lambda: self._consumer.sync(self._read_offsets), "reading offsets", SQLAlchemyError)
        self._observer.rebalanced()
        for gap in gaps:
            self._observer.gap(gap)

    def _predict(self) -> None:
        """Take the batch through the model and answer it; its outcomes then wait to be written."""
        if not len(self._batch):
            return
        if self._unwritten.room < len(self._batch):
            self._write()
        epoch = self._consumer.epoch
        outcomes = self._pipeline.run(self._batch.take())
        messages = [self._answers.encode(outcome) for outcome in outcomes]
        self._until_done(lambda: self._publisher.send(messages), "sending answers", KafkaError)
        self._observer.answered(outcomes)
        if epoch != self._consumer.epoch:
            return  # the partitions may be another worker's by now: whoever owns them does the batch again
        for outcome in outcomes:
            self._unwritten.add(outcome)

    def _write(self) -> None:
        """Write what waits, however long the database is away: offsets stand still meanwhile."""
        outcomes, moves = self._take_unwritten()
        if not outcomes:
            return
        try:
            written = self._until_done(lambda: self._recorder.write(outcomes, moves), "writing", DBAPIError)
        except StaleWriteError as error:
            self._stale(error)
            return
        self._observer.written(written)
        self._consumer.moved(moves)

    def _before_rebalance(self) -> None:
        """One attempt to write, then drop what is in hand: the positions are about to change."""
        outcomes, moves = self._take_unwritten()
        if outcomes:
            try:
                self._observer.written(self._recorder.write(outcomes, moves))
            except (StaleWriteError, SQLAlchemyError) as error:
                _log.warning("not written before a rebalance", extra=log.fields(error=type(error).__name__))
        self._drop()

    def _take_unwritten(self) -> tuple[list[Outcome], dict[Partition, Move]]:
        outcomes = self._unwritten.take()
        return outcomes, self._consumer.moves([outcome.record for outcome in outcomes])

    def _stale(self, error: StaleWriteError) -> None:
        _log.warning("stale write refused: %s", error)
        self._observer.stale()
        self._drop()
        self._consumer.resync()

    def _drop(self) -> None:
        """Forget everything read and not written. The next owner of the partitions reads it again."""
        self._batch.take()
        self._unwritten.take()
        for partition in self._consumer.synced:
            self._recorder.forget(partition)

    def _until_done(self, action: Callable[[], Result], name: str, error: type[Exception]) -> Result:
        return until_done(
            action,
            name=name,
            on=(error, KafkaError),
            stop=self._stop,
            between=self._consumer.keep_alive,
            failed=self._observer.failed,
        )

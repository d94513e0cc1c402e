"""One topic read into the database: the loop that labels and observations share.

Records are handed over with the moves that the transaction which writes them must make. A batch whose positions were
moved by another worker meanwhile is dropped and the stored offsets are read again; so is everything after a
rebalance. Whatever fails is tried again until the drain deadline.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from kafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError

from inference import log
from inference.consumer import GroupConsumer
from inference.errors import StaleWriteError
from inference.gaps import Gap
from inference.observe import Observer
from inference.offsets import Move, ReadOffsets
from inference.pulse import Pulse
from inference.record import Partition, Record
from inference.retry import Stop, until_done

_log = logging.getLogger(__name__)
Result = TypeVar("Result")
Handle = Callable[[list[Record], Mapping[Partition, Move]], None]
POLL_SECONDS = 0.5
LOOK_SECONDS = 1.0


class Intake:
    """Polls one group member's records and hands them to `handle` until a stop is requested."""

    def __init__(
        self,
        *,
        consumer: GroupConsumer,
        read_offsets: ReadOffsets,
        record_gaps: Callable[[Sequence[Gap]], Mapping[Partition, Move]],
        name: str,
        handle: Handle,
        observer: Observer,
        stop: Stop,
        pulse: Pulse,
        batch: int,
        pace_seconds: float = 0.0,
        forget: Callable[[Partition], None] = lambda _: None,
    ) -> None:
        """`handle` writes at most `batch` records with their moves in one transaction, or raises StaleWriteError.

        `forget` is called for each partition whose position is about to be read anew. Batches that are not full come
        `pace_seconds` apart, so that few messages do not mean many transactions. `name` is what is read, in log lines.
        """
        self._consumer = consumer
        self._read_offsets = read_offsets
        self._record_gaps = record_gaps
        self._name = name
        self._handle = handle
        self._observer = observer
        self._stop = stop
        self._pulse = pulse
        self._batch = batch
        self._pace_seconds = pace_seconds
        self._forget = forget
        self._looked = 0.0

    def run(self) -> None:
        """Serve until a stop is requested; what is in hand then is finished within the drain deadline."""
        try:
            while not self._stop.requested:
                self._step()
        finally:
            self._consumer.close()

    @property
    def assigned(self) -> bool:
        """Whether the group has given this member its part and its positions are known."""
        return self._consumer.assigned and not self._consumer.unsynced

    def until_done(self, action: Callable[[], Result], name: str) -> Result:
        """The action's result, tried again while broker or database fail. Raises StoppingError at the deadline."""
        return until_done(
            action,
            name=name,
            on=(SQLAlchemyError, KafkaError),
            stop=self._stop,
            between=self._keep_alive,
            failed=self._observer.failed,
        )

    def _keep_alive(self) -> None:
        self._pulse.beat()
        self._consumer.keep_alive()

    def _step(self) -> None:
        self._pulse.beat()
        begun = time.monotonic()
        try:
            if self._consumer.unsynced:
                self._sync()
            records = self._poll()
            if records:
                moves = self._consumer.moves(records)
                self._handle(records, moves)
                self._consumer.moved(moves)
        except StaleWriteError as error:
            _log.warning("stale write refused: %s", error)
            self._observer.stale()
            self._consumer.resync()
            return
        if 0 < len(records) < self._batch:
            self._stop.wait(max(0.0, begun + self._pace_seconds - time.monotonic()))
        if begun > self._looked + LOOK_SECONDS:
            self._looked = begun
            self._observer.lag(self._consumer.lag())

    def _poll(self) -> list[Record]:
        try:
            return self._consumer.poll(POLL_SECONDS, self._batch)
        except KafkaError as error:
            _log.warning("reading %s failed", self._name, extra=log.fields(error=type(error).__name__))
            self._stop.wait(1.0)
            return []

    def _sync(self) -> None:
        for partition in self._consumer.unsynced:
            self._forget(partition)
        found = self.until_done(lambda: self._consumer.sync(self._read_offsets), f"reading {self._name} offsets")
        self._observer.rebalanced()
        if not found:
            return
        self._consumer.moved(self.until_done(lambda: self._record_gaps(found), f"recording {self._name} gaps"))
        for gap in found:
            self._observer.gap(gap)

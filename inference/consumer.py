"""A member of a consumer group whose position comes from the database, not from Kafka's committed offsets."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from inference import log
from inference.offsets import Move
from inference.record import Partition, Record, next_offsets
from inference.request import MAX_MESSAGE_BYTES

_log = logging.getLogger(__name__)
ReadOffsets = Callable[[Iterable[Partition]], Mapping[Partition, int]]


@dataclass(frozen=True, slots=True)
class Gap:
    """A stored offset that the log does not have (any more): reading goes on at `resumed`."""

    partition: Partition
    stored: int
    resumed: int


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the library ships no types
    """Runs on the client's own thread, so it only notes what happened; the loop that polls acts on it."""

    def __init__(self, events: queue.SimpleQueue[tuple[str, list[Partition]]]) -> None:
        self._events = events

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._events.put(("revoked", [_ours(p) for p in revoked]))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._events.put(("lost", [_ours(p) for p in lost]))

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._events.put(("assigned", [_ours(p) for p in assigned]))


class GroupConsumer:
    """Polls records of the partitions whose position is known to agree with the database.

    Usage: `poll`; where `unsynced` is not empty, `sync` with the stored offsets; after a transaction `moved`. Every
    change of the assignment raises `epoch` and unsyncs all partitions: records of an older epoch must not be written.
    Not for several threads.
    """

    def __init__(
        self,
        connection: Mapping[str, Any],
        group: str,
        topic: str,
        client_id: str,
        poll_seconds: float,
        before_rebalance: Callable[[], None] = lambda: None,
    ) -> None:
        """`poll_seconds` is the longest time between two polls before the group takes the partitions away.

        `before_rebalance` is called by the polling thread before positions are forgotten: the last chance to write.
        """
        self.before_rebalance = before_rebalance
        self._events: queue.SimpleQueue[tuple[str, list[Partition]]] = queue.SimpleQueue()
        self._consumer = KafkaConsumer(
            **connection,
            client_id=client_id,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            max_poll_interval_ms=int(poll_seconds * 1000),
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            fetch_max_bytes=2 * MAX_MESSAGE_BYTES,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        )
        self._consumer.subscribe([topic], listener=_Listener(self._events))
        self._stored: dict[Partition, int | None] = {}
        self.unsynced: set[Partition] = set()
        self.epoch = 0
        self.assigned = False  # whether the group has given this member its part, which may be no partition at all

    @property
    def synced(self) -> set[Partition]:
        """The partitions that records come from."""
        return set(self._stored)

    def poll(self, seconds: float, max_records: int) -> list[Record]:
        """Records of synced partitions, in order within each. Raises KafkaError where the broker cannot be used."""
        found = self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=max_records)
        self._take_events()
        now, wall = time.monotonic(), datetime.now(UTC)
        return [
            Record(
                topic=raw.topic,
                partition=raw.partition,
                offset=raw.offset,
                key=raw.key,
                value=raw.value,
                headers=tuple(raw.headers or ()),
                received=now,
                received_at=wall,
            )
            for partition, records in found.items()
            if _ours(partition) in self._stored
            for raw in records
        ]

    def keep_alive(self) -> None:
        """Poll without reading, so that the group knows this member lives while it waits for something else."""
        assignment = self._consumer.assignment()
        self._consumer.pause(*assignment)
        try:
            self._consumer.poll(timeout_ms=0, max_records=1)
        except KafkaError:
            _log.warning("the broker cannot be reached")
        self._take_events()
        self._consumer.resume(*self._consumer.paused())

    def _take_events(self) -> None:
        if self._events.empty():
            return
        self.before_rebalance()
        held = set(self._stored) | self.unsynced
        while not self._events.empty():
            kind, partitions = self._events.get()
            if kind == "assigned":
                self.assigned = True
                held |= set(partitions)
            else:
                held -= set(partitions)
            if not partitions:
                continue
            names = [f"{p.topic}[{p.number}]" for p in partitions]
            _log.info("partitions %s", kind, extra=log.fields(partitions=names))
        self._start_epoch(held)

    def resync(self) -> None:
        """Forget every position: the database knows better."""
        self._start_epoch(set(self._stored) | self.unsynced)

    def _start_epoch(self, held: set[Partition]) -> None:
        self.epoch += 1
        self._stored.clear()
        self.unsynced = held

    def sync(self, read: ReadOffsets) -> list[Gap]:
        """Go to the stored offsets of all unsynced partitions, to the beginning where there is none.

        Returns the gaps found. Raises KafkaError, or whatever `read` raises: sync again.
        """
        partitions = sorted(self.unsynced)
        stored = read(partitions)
        theirs = [_theirs(p) for p in partitions]
        beginnings, ends = self._consumer.beginning_offsets(theirs), self._consumer.end_offsets(theirs)
        gaps = []
        for partition in partitions:
            first, last = beginnings[_theirs(partition)], ends[_theirs(partition)]
            offset = stored.get(partition)
            start = first if offset is None or not first <= offset <= last else offset
            if offset is not None and start != offset:
                gaps.append(Gap(partition, offset, start))
            self._consumer.seek(_theirs(partition), start)
            self._stored[partition] = offset
        self.unsynced.clear()
        return gaps

    def moves(self, records: list[Record]) -> dict[Partition, Move]:
        """The moves that a transaction with these records must make."""
        return {partition: Move(self._stored.get(partition), end) for partition, end in next_offsets(records).items()}

    def moved(self, moves: Mapping[Partition, Move]) -> None:
        """Take over what a committed transaction stored, and tell Kafka, for its tools' sake only."""
        for partition, move in moves.items():
            if partition in self._stored:
                self._stored[partition] = move.next
        held = {
            _theirs(partition): OffsetAndMetadata(move.next, "", -1)
            for partition, move in moves.items()
            if partition in self._stored
        }
        if held:
            self._consumer.commit_async(held)

    def lag(self) -> dict[Partition, int]:
        """Messages behind the end of each partition, as far as it is known."""
        behind = {}
        for partition, offset in self._stored.items():
            end = self._consumer.highwater(_theirs(partition))
            if end is not None:
                behind[partition] = max(0, end - (offset or 0))
        return behind

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        self._consumer.close(timeout_ms=5000)


def _ours(partition: TopicPartition) -> Partition:
    return Partition(partition.topic, partition.partition)


def _theirs(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.number)

"""A member of a consumer group whose position comes from the database, not from Kafka's committed offsets."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, LogTruncationError, NoOffsetForPartitionError, OffsetOutOfRangeError

from inference import log
from inference.client import AT_ONCE, Client
from inference.fetching import Fetching
from inference.gaps import Gap, Log, differ, resume
from inference.log_end import reaches
from inference.membership import REBALANCE_SECONDS, Membership
from inference.offsets import Move, ReadOffsets
from inference.positions import Positions
from inference.record import Partition, Record
from inference.topics import topic_id

_log = logging.getLogger(__name__)


class GroupConsumer:
    """Polls records of the partitions whose position is known to agree with the database.

    Usage: `poll`; where `unsynced` is not empty, `sync` with the stored offsets; after a transaction `stored`, then
    `commit`. Every change of the assignment raises `epoch` and unsyncs all partitions: records of an older epoch must
    not be written. One thread polls, syncs, commits and closes; another may call `moves` and `stored` while it holds
    `lock`.
    """

    def __init__(
        self,
        connection: Mapping[str, Any],
        group: str,
        topic: str,
        client_id: str,
        poll_seconds: float,
        drained: Callable[[], bool] = lambda: True,
        *,
        fetching: Fetching = AT_ONCE,
    ) -> None:
        """`poll_seconds` is the longest time between two polls before the group takes the partitions away.

        `drained` tells, from any thread, whether all that was polled is written: before a partition is given up the
        group waits for that, at most `HANDOVER_SECONDS`.
        """
        self.lock = threading.Lock()
        self.topic = topic
        self._drained = drained
        self._connection = connection
        self._fetching = fetching
        self._options: dict[str, Any] = {
            "group": group, "topic": topic, "client_id": client_id, "poll_seconds": poll_seconds, "fetching": fetching,
        }  # fmt: skip
        self._positions = Positions()
        self._astray = False  # a log no longer has the position
        self._truncated: dict[Partition, int] = {}  # where a log was cut behind the position
        self.unsynced: set[Partition] = set()
        self.epoch = 0
        self._membership, self._consumer = self._join()

    def _join(self) -> tuple[Membership, Client]:
        membership = Membership(self._drained)
        return membership, Client(self._connection, **self._options, listener=membership)

    @property
    def assigned(self) -> bool:
        """Whether the group has given this member its part, which may be no partition at all."""
        return self._membership.assigned

    def readable(self, begun: float, received: float) -> float:
        """Since when, at the earliest, the messages could be read that a poll from `begun` on brought at `received`."""
        return max(begun, received - self._fetching.gathers)

    @property
    def synced(self) -> set[Partition]:
        """The partitions that records come from."""
        return self._positions.partitions

    def poll(self, seconds: float, max_records: int) -> list[Record]:
        """Records of synced partitions, in order within each. Raises KafkaError where the broker cannot be used."""
        if self._astray or self._made_anew:
            self._find_the_way(seconds)
            return []
        found = self._fetch(seconds, max_records)
        self._take_events()
        if self._membership.revoking:
            return []  # being given up: the next owner reads them
        now, wall = time.monotonic(), datetime.now(UTC)
        polled = [
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
            if _ours(partition) in self._positions
            for raw in records
        ]
        self._positions.read(polled)
        return polled

    def _fetch(self, seconds: float, max_records: int) -> Mapping[TopicPartition, list[Any]]:
        try:
            found: Mapping[TopicPartition, list[Any]] = self._consumer.poll(
                timeout_ms=int(seconds * 1000), max_records=max_records
            )
            return found
        except NoOffsetForPartitionError:  # assigned a moment ago: `sync` says where to read
            return {}
        except OffsetOutOfRangeError as error:
            _log.warning("the log no longer has the position: %s", error)
        except LogTruncationError as error:
            _log.warning("the log was cut behind the position: %s", error)
            cut = {_ours(p): diverged.offset for p, diverged in error.divergent_offsets.items() if diverged is not None}
            self._truncated.update(cut)
        self._astray = True
        return {}

    def _find_the_way(self, seconds: float) -> None:
        """Read the positions anew, but write first what is in hand: it must not count as lost.

        Of another topic with a fresh client: this one may hold messages of the old log at offsets of the new one.
        """
        self.keep_alive()
        if not self._drained():
            time.sleep(min(seconds, 0.05))
        elif self._made_anew:
            _log.warning("the topic was made anew: its consumer is rebuilt", extra=log.fields(topic=self.topic))
            self.rebuild()
        else:
            self.resync()

    @property
    def _made_anew(self) -> bool:
        """Whether the client, which asks now and then, has heard that another topic has the name."""
        return differ(self._positions.topic_id, topic_id(self._consumer, self.topic))

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
        changed = self._membership.changed(self._positions.partitions | self.unsynced)
        if changed is not None:
            self._start_epoch(changed)

    def resync(self) -> None:
        """Forget every position: the database knows better."""
        self._start_epoch(self._positions.partitions | self.unsynced)

    def rebuild(self) -> None:
        """Leave the group and join it anew with a fresh client: for one that has stopped to deliver.

        Raises KafkaError where the broker cannot be reached; the client then stays as it was.
        """
        fresh = self._join()
        self.close()
        self._start_epoch(set())
        self._membership, self._consumer = fresh

    def _start_epoch(self, held: set[Partition]) -> None:
        with self.lock:
            self.epoch += 1
            self._positions.clear()
            self._astray = False
            self.unsynced = held

    def sync(self, read: ReadOffsets) -> list[Gap]:
        """Go to the stored offsets of all unsynced partitions, to the beginning where there is none.

        Returns the gaps found. Raises KafkaError, or whatever `read` raises: sync again.
        """
        partitions = sorted(self.unsynced)
        stored = read(partitions)
        known = topic_id(self._consumer, self.topic)  # before the offsets: a newer id would vouch for older ones
        theirs = [_theirs(p) for p in partitions]
        beginnings, ends = self._consumer.beginning_offsets(theirs), self._consumer.end_offsets(theirs)
        gaps = []
        for partition in partitions:
            first, last = beginnings[_theirs(partition)], ends[_theirs(partition)]
            position = stored.get(partition)
            if position and position.next > last and not differ(position.topic_id, known):
                last = position.next if reaches(self._connection, _theirs(partition), position.next) else last
            log_now = Log(first, last, known, self._truncated.pop(partition, None))
            start, gap = resume(partition, position, log_now)
            if gap is not None:
                gaps.append(gap)
            self._consumer.seek(_theirs(partition), start)
            self._positions.learn(partition, position)
        self._positions.topic_id = known
        self.unsynced.clear()
        return gaps

    def moves(self, records: Sequence[Record]) -> dict[Partition, Move]:
        """The moves that a transaction with these records must make."""
        return self._positions.moves(records)

    def stored(self, moves: Mapping[Partition, Move]) -> None:
        """Take over what a committed transaction stored."""
        self._positions.stored(moves)

    def commit(self, moves: Mapping[Partition, Move]) -> None:
        """Tell Kafka what is stored, for its tools' sake only."""
        held = {
            _theirs(partition): OffsetAndMetadata(move.next, "", -1)
            for partition, move in moves.items()
            if partition in self._positions
        }
        if held:
            self._consumer.commit_async(held)

    def moved(self, moves: Mapping[Partition, Move]) -> None:
        """Take over what a committed transaction stored, and tell Kafka."""
        self.stored(moves)
        self.commit(moves)

    def behind(self) -> tuple[dict[Partition, int], dict[Partition, int]]:
        """Next offsets to read, and how far each is from the log's end as the broker tells it now. Raises KafkaError.

        Asks the broker, since a consumer that is stuck does not hear of an end that moves.
        """
        read = {}
        for partition in self._positions.partitions:
            # the client's own, which passes what holds no record, as the end of a transaction
            position = self._consumer.position(_theirs(partition), timeout_ms=1000)
            # a client that has lost its position stands still
            read[partition] = int(position) if position is not None else self._positions.next(partition)
        ends = self._consumer.end_offsets([_theirs(partition) for partition in read]) if read else {}
        lag = {}
        for partition, position in read.items():
            fetched = self._consumer.highwater(_theirs(partition)) or 0  # the embedded broker lists too short an end
            lag[partition] = max(fetched, ends[_theirs(partition)]) - position
        return read, lag

    def left_out(self, seconds: float) -> bool:
        """Whether this member still waits for its part of the group's partitions although the broker answers.

        `seconds` is what it is given beyond `REBALANCE_SECONDS`. Raises KafkaError where the broker does not answer.
        """
        waited = self._membership.waited
        if waited is None or waited < seconds + REBALANCE_SECONDS:
            return False
        self._consumer.end_offsets([TopicPartition(self.topic, 0)])
        return True

    def lag(self) -> dict[Partition, int]:
        """Messages behind the end of each partition that are not written yet, as far as it is known.

        Where nothing is in hand the client's position counts: it has passed what holds no record, as the marker at the
        end of a transaction, which the stored offset, the one after the last record, has not.
        """
        behind = {}
        for partition in self._positions.partitions:
            position = stored = self._positions.next(partition)
            try:
                end = self._consumer.highwater(_theirs(partition))
                if not self._positions.in_hand(partition):
                    position = self._consumer.position(_theirs(partition), timeout_ms=0) or stored
            except KafkaError:  # taken away, or cut: the next poll tells
                continue
            if end is not None:
                behind[partition] = max(0, end - max(stored, position))
        return behind

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        self._membership.closing = True
        self._consumer.close(timeout_ms=5000)


def _ours(partition: TopicPartition) -> Partition:
    return Partition(partition.topic, partition.partition)


def _theirs(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.number)

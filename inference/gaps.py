"""Offset gaps: the log no longer has the stored offset. Each is recorded in the transaction that moves past it.

Two kinds. `expired`: messages left the log before they were read (retention, deleted records); reading goes on at the
first one that is left. `reset`: the log starts again. Its topic was made anew, as its id tells where the broker gives
one, however long the new log is; or it ends before the stored offset, as after a replica that lagged behind became
leader. Reading goes on at the beginning, and request ids logged before are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection, Engine, func, insert, select, update

from inference import offsets
from inference.offsets import Move, Position
from inference.record import Partition
from migrations.schema.prediction_log import dead_letters
from migrations.schema.prediction_log import offset_gaps as table
from migrations.schema.summaries import summaries


class Kind(StrEnum):
    """Why the log does not have the stored offset."""

    EXPIRED = "expired"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Gap:
    """A stored offset that the log does not have (any more): reading goes on at `resumed`.

    The ids are those of the topic that was read and of the one that is there now, None where they are not known.
    """

    partition: Partition
    stored: int
    resumed: int
    stored_topic_id: UUID | None = None
    topic_id: UUID | None = None

    @property
    def made_anew(self) -> bool:
        """Whether the topic is known to be another one of the same name."""
        return differ(self.stored_topic_id, self.topic_id)

    @property
    def kind(self) -> Kind:
        """Messages were skipped, or the log starts again."""
        return Kind.EXPIRED if self.resumed > self.stored and not self.made_anew else Kind.RESET

    @property
    def lost(self) -> int:
        """Offsets that were skipped: the messages lost, or more where the log was compacted or transactional."""
        return self.resumed - self.stored if self.kind is Kind.EXPIRED else 0

    @property
    def move(self) -> Move:
        """The move past it."""
        return Move(self.stored, self.resumed, self.stored_topic_id, self.topic_id or self.stored_topic_id)


@dataclass(frozen=True, slots=True)
class Log:
    """A partition as its broker tells of it: first offset, the offset after the last, the topic's id if there is one.

    `cut` is where the log was cut behind the reader's position, None where it was not.
    """

    first: int
    end: int
    topic_id: UUID | None = None
    cut: int | None = None


def resume(partition: Partition, stored: Position | None, log: Log) -> tuple[int, Gap | None]:
    """The offset to read on from, and the gap where that is not the stored one of the same topic."""
    if stored is None:
        return log.first, None
    if differ(stored.topic_id, log.topic_id):
        return log.first, Gap(partition, stored.next, log.first, stored.topic_id, log.topic_id)
    start = stored.next if log.first <= stored.next <= log.end else log.first
    if log.cut is not None:
        start = max(log.first, min(start, log.cut))
    if start == stored.next:
        return start, None
    return start, Gap(partition, stored.next, start, stored.topic_id, log.topic_id)


def differ(before: UUID | None, now: UUID | None) -> bool:
    """Whether two ids are of different topics, as far as they are known."""
    return None not in (before, now) and before != now


def record(
    connection: Connection, group: str, gaps: Iterable[Gap], now: datetime, worker_id: str
) -> dict[Partition, Move]:
    """Record gaps and store the offsets that reading goes on at; returns these moves, for the consumer to take over.

    Compare-and-set, in the caller's transaction: of two workers, or of two attempts, one records a gap. Raises
    StaleWriteError where a stored offset has changed since: read the offsets again. Sums that a recorder keeps of
    these partitions must be forgotten.
    """
    found = {gap.partition: gap for gap in gaps}
    moves = {partition: gap.move for partition, gap in found.items()}
    offsets.advance(connection, group, moves, now)
    for gap in found.values():
        connection.execute(insert(table).values(_row(gap, group, now, worker_id)))
        if gap.kind is Kind.RESET:
            _set_aside(connection, gap)
    return moves


def recorder(engine: Engine, group: str, worker_id: str) -> Callable[[Sequence[Gap]], dict[Partition, Move]]:
    """`record` in a transaction of its own, for one group member."""

    def commit(found: Sequence[Gap]) -> dict[Partition, Move]:
        with engine.begin() as connection:
            return record(connection, group, found, datetime.now(UTC), worker_id)

    return commit


def _row(gap: Gap, group: str, now: datetime, worker_id: str) -> dict[str, object]:
    return {
        "group_id": group,
        "topic": gap.partition.topic,
        "partition": gap.partition.number,
        "detected_at": now,
        "kind": str(gap.kind),
        "stored_offset": gap.stored,
        "resumed_offset": gap.resumed,
        "lost": gap.lost,
        "worker_id": worker_id,
        "stored_topic_id": gap.stored_topic_id,
        "topic_id": gap.topic_id,
    }


def _set_aside(connection: Connection, gap: Gap) -> None:
    """Renumber, below zero, what is known by an offset of the old log: the new one has the same offsets again."""
    for offset in (dead_letters.c.offset, summaries.c.first_offset):
        of = [offset.table.c.topic == gap.partition.topic, offset.table.c.partition == gap.partition.number]
        lowest, highest = connection.execute(select(func.min(offset), func.max(offset)).where(*of)).one()
        if highest is not None and highest >= gap.resumed:
            shift = highest + 1 - min(0, lowest)  # below every number in use, so that no two rows meet
            connection.execute(update(offset.table).where(*of, offset >= gap.resumed).values({offset: offset - shift}))

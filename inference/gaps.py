"""Offset gaps: the log no longer has the stored offset. Each is recorded in the transaction that moves past it.

Two kinds. `expired`: messages left the log before they were read (retention, deleted records); reading goes on at the
first one that is left. `reset`: the log ends before the stored offset, as after its topic was made anew or a replica
that lagged behind became leader; reading goes on at the beginning, and request ids logged before are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import Connection, Engine, func, insert, select, update

from inference import offsets
from inference.offsets import Move
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
    """A stored offset that the log does not have (any more): reading goes on at `resumed`."""

    partition: Partition
    stored: int
    resumed: int

    @property
    def kind(self) -> Kind:
        """Messages were skipped, or the log starts again."""
        return Kind.EXPIRED if self.resumed > self.stored else Kind.RESET

    @property
    def lost(self) -> int:
        """Offsets that were skipped: the messages lost, or more where the log was compacted or transactional."""
        return max(0, self.resumed - self.stored)


def record(
    connection: Connection, group: str, gaps: Iterable[Gap], now: datetime, worker_id: str
) -> dict[Partition, Move]:
    """Record gaps and store the offsets that reading goes on at; returns these moves, for the consumer to take over.

    Compare-and-set, in the caller's transaction: of two workers, or of two attempts, one records a gap. Raises
    StaleWriteError where a stored offset has changed since: read the offsets again. Sums that a recorder keeps of
    these partitions must be forgotten.
    """
    found = {gap.partition: gap for gap in gaps}
    moves = {partition: Move(gap.stored, gap.resumed) for partition, gap in found.items()}
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
    }


def _set_aside(connection: Connection, gap: Gap) -> None:
    """Renumber, below zero, what is known by an offset of the old log: the new one has the same offsets again."""
    for offset in (dead_letters.c.offset, summaries.c.first_offset):
        of = [offset.table.c.topic == gap.partition.topic, offset.table.c.partition == gap.partition.number]
        lowest, highest = connection.execute(select(func.min(offset), func.max(offset)).where(*of)).one()
        if highest is not None and highest >= gap.resumed:
            shift = highest + 1 - min(0, lowest)  # below every number in use, so that no two rows meet
            connection.execute(update(offset.table).where(*of, offset >= gap.resumed).values({offset: offset - shift}))

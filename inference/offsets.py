"""The offsets that count: rows of the database, moved in the transaction that writes what was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from inference.errors import StaleWriteError
from inference.record import Partition
from migrations.schema.prediction_log import consumer_offsets as table


@dataclass(frozen=True, slots=True)
class Position:
    """A next offset, and the id of the topic it is of: a topic that is deleted and made anew has another one.

    The id is None where the broker gives none (KIP-516, in Kafka since 2.8), or nothing was read since it does.
    """

    next: int
    topic_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A partition's next offset: what the writer believes it to be (None: no row yet), and what it becomes.

    So the topic ids, without which a worker that was cut off could write over the same offset of another topic.
    """

    expected: int | None
    next: int
    expected_topic_id: UUID | None = None
    topic_id: UUID | None = None

    @property
    def position(self) -> Position:
        """What it becomes."""
        return Position(self.next, self.topic_id)


ReadOffsets = Callable[[Iterable[Partition]], Mapping[Partition, Position]]


def read(connection: Connection, group: str, partitions: Iterable[Partition]) -> dict[Partition, Position]:
    """The stored position of each partition that has one."""
    wanted = set(partitions)
    rows = connection.execute(
        select(table.c.topic, table.c.partition, table.c.next_offset, table.c.topic_id).where(
            table.c.group_id == group, table.c.topic.in_({partition.topic for partition in wanted})
        )
    )
    stored = {Partition(row.topic, row.partition): Position(row.next_offset, row.topic_id) for row in rows}
    return {partition: position for partition, position in stored.items() if partition in wanted}


def reader(engine: Engine, group: str) -> ReadOffsets:
    """`read` for one group, each time on a connection of its own."""

    def read_now(partitions: Iterable[Partition]) -> Mapping[Partition, Position]:
        with engine.connect() as connection:
            return read(connection, group, partitions)

    return read_now


# Built once: building a statement costs more than running it.
_KEY: dict[str, Any] = {
    "group_id": bindparam("of_group"),
    "topic": bindparam("of_topic"),
    "partition": bindparam("of_partition"),
}
_VALUES: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("next_offset", "updated_at", "topic_id")}
_INSERT = upsert(table).values(_KEY | _VALUES).on_conflict_do_nothing().returning(table.c.next_offset)
_UPDATE = (
    update(table)
    .where(*(table.c[name] == value for name, value in _KEY.items()))
    .where(table.c.next_offset == bindparam("expected"))
    .where(table.c.topic_id.is_not_distinct_from(bindparam("expected_topic_id")))
    .values(_VALUES)
)


def advance(connection: Connection, group: str, moves: Mapping[Partition, Move], now: datetime) -> None:
    """Move every partition, or none: compare-and-set.

    Raises StaleWriteError where a stored position is not the expected one; the transaction must then be rolled back.
    """
    for partition, move in sorted(moves.items()):
        given = {
            "of_group": group,
            "of_topic": partition.topic,
            "of_partition": partition.number,
            "new_next_offset": move.next,
            "new_updated_at": now,
            "new_topic_id": move.topic_id,
        }
        if move.expected is None:
            moved = connection.execute(_INSERT, given).first() is not None
        else:
            expected = {"expected": move.expected, "expected_topic_id": move.expected_topic_id}
            moved = connection.execute(_UPDATE, given | expected).rowcount == 1
        if not moved:
            raise StaleWriteError(
                f"{partition.topic}[{partition.number}] is no longer at {move.expected}: another worker has moved it"
            )

"""The offsets that count: rows of the database, moved in the transaction that writes what was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from inference.errors import StaleWriteError
from inference.record import Partition
from migrations.schema.prediction_log import consumer_offsets as table


@dataclass(frozen=True, slots=True)
class Move:
    """A partition's next offset: what the writer believes it to be (None: no row yet), and what it becomes."""

    expected: int | None
    next: int


def read(connection: Connection, group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """The stored next offset of each partition that has one."""
    wanted = set(partitions)
    rows = connection.execute(
        select(table.c.topic, table.c.partition, table.c.next_offset).where(
            table.c.group_id == group, table.c.topic.in_({partition.topic for partition in wanted})
        )
    )
    stored = {Partition(row.topic, row.partition): row.next_offset for row in rows}
    return {partition: offset for partition, offset in stored.items() if partition in wanted}


def reader(engine: Engine, group: str) -> Callable[[Iterable[Partition]], Mapping[Partition, int]]:
    """`read` for one group, each time on a connection of its own."""

    def read_now(partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        with engine.connect() as connection:
            return read(connection, group, partitions)

    return read_now


def advance(connection: Connection, group: str, moves: Mapping[Partition, Move], now: datetime) -> None:
    """Move every partition, or none: compare-and-set.

    Raises StaleWriteError where a stored offset is not the expected one; the transaction must then be rolled back.
    """
    for partition, move in sorted(moves.items()):
        key = {"group_id": group, "topic": partition.topic, "partition": partition.number}
        values = {"next_offset": move.next, "updated_at": now}
        if move.expected is None:
            statement = upsert(table).values(key | values).on_conflict_do_nothing().returning(table.c.next_offset)
            moved = connection.execute(statement).first() is not None
        else:
            where = [table.c[name] == value for name, value in key.items()]
            where.append(table.c.next_offset == move.expected)
            moved = connection.execute(update(table).where(*where).values(values)).rowcount == 1
        if not moved:
            raise StaleWriteError(
                f"{partition.topic}[{partition.number}] is no longer at {move.expected}: another worker has moved it"
            )

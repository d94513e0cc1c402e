"""Daily partitions of the log: which there are, and how one leaves its table without holding up readers or writers.

A partition goes in steps that each can be repeated: it is detached, concurrently, and then dropped. What was
interrupted in between is found by its name, attached or not.
Source: PostgreSQL 18, ALTER TABLE, DETACH PARTITION CONCURRENTLY and FINALIZE.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from sqlalchemy import Connection, MetaData, Table, text

from migrations.schema.partitions import PARTITIONED, day_of


class State(StrEnum):
    """How far a partition has left its table; `DETACHING` was interrupted while it waited for readers."""

    ATTACHED = "attached"
    DETACHING = "detaching"
    DETACHED = "detached"


@dataclass(frozen=True, slots=True)
class Partition:
    """One UTC day of a table. `rows` is PostgreSQL's estimate, `size` in bytes counts indexes too."""

    table: str
    name: str
    day: date
    state: State
    rows: int
    size: int

    def as_table(self) -> Table:
        """The partition as a table of its own, with its parent's columns."""
        parent = next(each for each in PARTITIONED if each.name == self.table)
        return parent.to_metadata(MetaData(), name=self.name)


_ALL = text(
    "SELECT c.relname AS name, greatest(c.reltuples, 0)::bigint AS rows, pg_total_relation_size(c.oid) AS size, "
    "i.inhrelid IS NOT NULL AS attached, coalesce(i.inhdetachpending, false) AS pending "
    "FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid "
    "WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace ORDER BY c.relname"
)


def before(connection: Connection, day: date) -> list[Partition]:
    """The partitions of earlier days, the oldest first; those too that an interrupted run had detached already."""
    found = []
    for row in connection.execute(_ALL):
        named = day_of(row.name)
        if named is None or named[1] >= day:
            continue
        state = State.DETACHING if row.pending else State.ATTACHED if row.attached else State.DETACHED
        found.append(Partition(named[0], row.name, named[1], state, row.rows, row.size))
    return sorted(found, key=lambda each: (each.day, each.table))


def exists(connection: Connection, partition: Partition) -> bool:
    """Whether there is a table of that name."""
    return connection.scalar(text("SELECT to_regclass(:name)"), {"name": partition.name}) is not None


def detach(connection: Connection, partition: Partition) -> None:
    """Take a partition out of its table; waits for transactions that read it. `connection` must be in autocommit.

    Raises OperationalError where a lock is not had in time: what was begun is then finished by the next attempt.
    """
    if partition.state is not State.DETACHED:
        how = "FINALIZE" if partition.state is State.DETACHING else "CONCURRENTLY"
        connection.execute(text(f"ALTER TABLE {partition.table} DETACH PARTITION {partition.name} {how}"))


def drop(connection: Connection, partition: Partition) -> None:
    """Drop a partition that was detached: its rows and their space are gone at once."""
    connection.execute(text(f"DROP TABLE {partition.name}"))

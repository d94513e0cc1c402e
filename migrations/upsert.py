"""Upserts of many rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, literal_column
from sqlalchemy.dialects.postgresql import Insert, insert


def replacing(table: Table) -> Insert:
    """INSERT into a table where a row of the same primary key is there: all its other columns are replaced."""
    keys = {column.name for column in table.primary_key}
    statement = insert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)


def upsert_all(connection: Connection, statement: Insert, rows: Sequence[Mapping[str, Any]]) -> None:
    """Execute an INSERT … ON CONFLICT for all rows, up to a thousand in one statement and in their order.

    Without RETURNING, SQLAlchemy sends such a statement once for each row; a constant needs no right to read.
    No two rows may have the same key. No rows are no statement.
    """
    if rows:
        connection.execute(statement.returning(literal_column("1")), list(rows))

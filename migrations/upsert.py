"""Upserts of many rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, literal_column
from sqlalchemy.dialects.postgresql import Insert


def upsert_all(connection: Connection, statement: Insert, rows: Sequence[Mapping[str, Any]]) -> None:
    """Execute an INSERT … ON CONFLICT for all rows, up to a thousand in one statement and in their order.

    Without RETURNING, SQLAlchemy sends such a statement once for each row; a constant needs no right to read.
    No two rows may have the same key. No rows are no statement.
    """
    if rows:
        connection.execute(statement.returning(literal_column("1")), list(rows))

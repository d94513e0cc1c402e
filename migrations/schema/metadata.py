"""One MetaData for every table, with constraint names that Alembic can find again, and shared column types."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Column, DateTime, MetaData, func, text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

TIMESTAMP = DateTime(timezone=True)


def created_at(name: str = "created_at", *, index: bool = False) -> Column[datetime]:
    """A timestamp the database sets when the row is written."""
    return Column(name, TIMESTAMP, nullable=False, server_default=func.now(), index=index)


def one_of(column: str, *values: str) -> CheckConstraint:
    """A text column limited to the given values."""
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


def one_row(column: str) -> CheckConstraint:
    """A table of one row: its key, a boolean, is true."""
    return CheckConstraint(column, name=column)


def totals() -> Column[Any]:
    """Counts over all rows of a summary."""
    empty = text("'{}'::jsonb")
    return Column("totals", JSONB, nullable=False, server_default=empty, comment="counts by name: schema/totals.py")

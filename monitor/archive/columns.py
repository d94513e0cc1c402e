"""From columns of the database to columns of Arrow, and the digest that tells whether two copies of rows are alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    cast,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

# The first that fits: a narrower kind of number comes before the wider one that it is a kind of.
_TYPES: tuple[tuple[type[TypeEngine[Any]], pa.DataType], ...] = (
    (DateTime, pa.timestamp("us", tz="UTC")),
    (JSONB, pa.string()),
    (String, pa.string()),
    (SmallInteger, pa.int16()),
    (BigInteger, pa.int64()),
    (Integer, pa.int32()),
    (Boolean, pa.bool_()),
    (Float, pa.float64()),  # REAL too: the driver reads it as the decimal that it prints, which is not its float32
    (LargeBinary, pa.binary()),
)


def schema(columns: Iterable[ColumnElement[Any]]) -> pa.Schema:
    """The Arrow schema of named columns. Raises TypeError on a type that has no place in an archive."""
    return pa.schema([pa.field(_name(column), _type(column.type)) for column in columns])


def as_read(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column as it is asked of the database: JSON as its text."""
    return cast(column, Text).label(_name(column)) if isinstance(column.type, JSONB) else column


def _name(column: ColumnElement[Any]) -> str:
    name = column.name if isinstance(column, Column) else getattr(column, "name", None)
    assert isinstance(name, str), "every archived column is named"
    return name


def _type(kind: TypeEngine[Any]) -> pa.DataType:
    if isinstance(kind, ARRAY):
        return pa.list_(_type(kind.item_type))
    for sql, arrow in _TYPES:
        if isinstance(kind, sql):
            return arrow
    raise TypeError(f"{kind!r} has no place in an archive")


class Digest:
    """SHA-256 over rows in their order and over names and types of their columns; and how many rows there were.

    Rows must come in batches of one size, but for the last: a digest goes by columns within a batch.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._sum = hashlib.sha256(repr([(field.name, _named(field.type)) for field in schema]).encode())
        self.rows = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Take in the next rows."""
        self.rows += batch.num_rows
        for column in batch.columns:
            for part in _canonical(column):
                self._sum.update(part)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._sum.hexdigest()


def _named(kind: pa.DataType) -> str:
    """A type's name without what a file may call the items of a list."""
    return f"list<{_named(kind.value_type)}>" if pa.types.is_list(kind) else str(kind)


def _canonical(column: pa.Array) -> list[bytes]:
    """A column's bytes, the same for equal values however Arrow lays them out."""
    nulls = column.is_null().to_numpy(zero_copy_only=False).tobytes()
    if pa.types.is_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).tobytes()
        return [nulls, lengths, *_canonical(pc.list_flatten(column))]
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        filled = pc.fill_null(column.cast(pa.binary()), b"")
        lengths = pc.binary_length(filled).to_numpy(zero_copy_only=False).tobytes()
        return [nulls, lengths, b"".join(filled.to_pylist())]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    filled = pc.fill_null(column, pa.scalar(0, column.type) if not pa.types.is_boolean(column.type) else False)
    return [nulls, filled.to_numpy(zero_copy_only=False).tobytes()]

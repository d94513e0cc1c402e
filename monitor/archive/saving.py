"""From a query to a file of the archive, a bounded part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Select, select

from monitor.archive.columns import as_read, schema
from monitor.archive.folder import BATCH, Archive, Saved
from monitor.storage.archived import Dataset


def save(connection: Connection, archive: Archive, dataset: Dataset, day: date) -> Saved:
    """Keep a day's rows as a file that was read back and found the same. Raises as `Archive.save` does."""
    rows = dataset.rows.subquery()
    fields = schema(rows.c)
    query = select(*(as_read(column) for column in rows.c)).order_by(*(rows.c[name] for name in dataset.key))
    return archive.save(dataset.name, day, fields, _batches(connection, query, fields))


def _batches(connection: Connection, query: Select[Any], fields: pa.Schema) -> Iterator[pa.RecordBatch]:
    result = connection.execute(query, execution_options={"yield_per": BATCH})
    for rows in result.partitions():
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=fields)

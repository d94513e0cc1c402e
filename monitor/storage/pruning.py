"""What has no partitions and must not grow without bound: request ids, refusals, counts of labels, samples, summaries.

Summaries go by the producers' clocks, so that a row may fall on any day: it must find its place, which a table that is
divided by days cannot promise without a default partition, and one with a default partition cannot detach concurrently.
They are few: rows of a day do not grow with traffic.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Select, Table, cast, delete, func, select
from sqlalchemy.types import Date

from migrations.schema.embedding_samples import embedding_samples
from migrations.schema.prediction_log import dead_letters, label_slots, request_ids
from migrations.schema.summaries import summaries

# By table: when a row was written, or the time that it is of. Nothing refers to the rows.
OF_LOG: dict[Table, Column[datetime]] = {
    request_ids: request_ids.c.logged_at,
    dead_letters: dead_letters.c.recorded_at,
    label_slots: label_slots.c.slot_start,
    embedding_samples: embedding_samples.c.slot_start,
}
AT_ONCE = 10_000  # rows of a transaction: a worker that claims ids waits for none of them


def older(connection: Connection, table: Table, end: datetime) -> int:
    """How many rows of one of `OF_LOG` were written before `end`."""
    return connection.execute(select(func.count()).where(OF_LOG[table] < end)).scalar_one()


def delete_some(connection: Connection, table: Table, end: datetime) -> int:
    """Delete at most AT_ONCE of the oldest rows of one of `OF_LOG` written before `end`; returns how many."""
    key = list(table.primary_key)
    oldest = select(*key).where(OF_LOG[table] < end).order_by(OF_LOG[table]).limit(AT_ONCE).subquery()
    matched = [column == oldest.c[column.name] for column in key]
    return connection.execute(delete(table).where(*matched)).rowcount


def summary_days(connection: Connection, before: date) -> list[date]:
    """The UTC days before that one which have summaries, the oldest first."""
    day = cast(func.timezone("UTC", summaries.c.slot_start), Date)
    query = select(day).distinct().where(summaries.c.slot_start < _midnight(before)).order_by(day)
    return list(connection.scalars(query))


def summaries_of(day: date) -> Select[Any]:
    """Every column of the summaries of a UTC day."""
    within = (summaries.c.slot_start >= _midnight(day), summaries.c.slot_start < _midnight(day + timedelta(days=1)))
    return select(summaries).where(*within)


def delete_summaries(connection: Connection, day: date) -> int:
    """Delete the summaries of a UTC day; returns how many there were."""
    return connection.execute(
        delete(summaries).where(
            summaries.c.slot_start >= _midnight(day), summaries.c.slot_start < _midnight(day + timedelta(days=1))
        )
    ).rowcount


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)

"""Many rows are upserted by one statement."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import create_engine, event, select

from migrations.schema.slos import slo_counts
from migrations.upsert import replacing, upsert_all

T0 = datetime(2026, 3, 1, tzinfo=UTC)


def test_rows_are_written_in_one_statement_and_replace_those_of_their_keys(database: str) -> None:
    engine = create_engine(database)
    statement = replacing(slo_counts)
    sent: list[int] = []

    @event.listens_for(engine, "do_execute")
    def note(_cursor: Any, statement: str, _parameters: Any, _context: Any) -> None:
        if statement.startswith("INSERT"):
            sent.append(1)

    @event.listens_for(engine, "do_executemany")
    def note_each(_cursor: Any, _statement: str, parameters: Any, _context: Any) -> None:
        sent.append(len(parameters))

    def rows(good: int) -> list[dict[str, Any]]:
        starts = [T0 + number * timedelta(minutes=5) for number in range(300)]
        return [{"model": "m", "sli": "s", "bucket_start": at, "good": good, "valid": 9 * good} for at in starts]

    with engine.begin() as connection:
        upsert_all(connection, statement, rows(1))
        upsert_all(connection, statement, rows(2))
        upsert_all(connection, statement, [])
        found = connection.execute(select(slo_counts.c.good, slo_counts.c.valid)).all()
    engine.dispose()
    assert [tuple(row) for row in found] == [(2, 18)] * 300
    assert sent == [1, 1]

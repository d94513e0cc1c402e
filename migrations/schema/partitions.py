"""Daily partitions of the log, made ahead of time by the migration and by the monitor's maintenance task."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, text

from migrations.schema.prediction_log import modality_log, prediction_log
from migrations.schema.rollouts import shadow_log

DAYS_AHEAD = 7
PARTITIONED = (prediction_log, modality_log, shadow_log)
TABLES = tuple(table.name for table in PARTITIONED)


def partition_name(table: str, day: date) -> str:
    """The partition that holds one UTC day of a table, e.g. `prediction_log_p20260131`."""
    return f"{table}_p{day:%Y%m%d}"


def is_partition(name: str) -> bool:
    """Whether a table's name is that of a daily partition."""
    return any(name.startswith(f"{table}_p") for table in TABLES)


def day_of(name: str) -> tuple[str, date] | None:
    """The table and the UTC day of a partition by its name; None where the name is none."""
    for table in TABLES:
        digits = name.removeprefix(f"{table}_p")
        if digits != name and len(digits) == 8 and digits.isdecimal():
            return table, datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC).date()
    return None


def ensure_partitions(
    connection: Connection, today: date, days_ahead: int = DAYS_AHEAD, tables: tuple[str, ...] = TABLES
) -> list[str]:
    """Make the missing partitions from `today` to `days_ahead` days later. Safe to run again; returns those made."""
    made = []
    for table in tables:
        # whoever makes it, a partition is its table's owner's to drop
        owner = connection.scalar(
            text("SELECT relowner::regrole::text FROM pg_class WHERE oid = CAST(:name AS regclass)"), {"name": table}
        )
        for ahead in range(days_ahead + 1):
            day = today + timedelta(days=ahead)
            name = partition_name(table, day)
            if connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is not None:
                continue
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            end = start + timedelta(days=1)
            connection.execute(
                text(
                    f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} "
                    f"FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"
                )
            )
            connection.execute(text(f"ALTER TABLE {name} OWNER TO {owner}"))
            made.append(name)
    return made


def days_ahead(connection: Connection, today: date) -> int:
    """For how many days after today every partitioned table has its partition without a gap; -1 without today's."""
    names = set(connection.scalars(text("SELECT inhrelid::regclass::text FROM pg_inherits")))
    ahead = -1
    while all(partition_name(table, today + timedelta(days=ahead + 1)) in names for table in TABLES):
        ahead += 1
    return ahead

"""Days of the database as files of an archive, while the database keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, timedelta

from sqlalchemy import Engine

from monitor.archive.folder import Archive, Saved
from monitor.archive.saving import save
from monitor.domain.window import Window
from monitor.storage import archived


def export(engine: Engine, archive: Archive, period: Window, only: frozenset[str] | None = None) -> Iterator[Saved]:
    """Save every day of which the period has a part, whole, and tell of each file; `only` picks datasets by name.

    Days of the log that were dropped are left out. Raises ArchiveError as `Archive.save` does.
    """
    for day in days(period):
        with engine.connect() as connection:
            for dataset in archived.of_day(connection, day):
                if only is None or dataset.name in only:
                    yield save(connection, archive, dataset, day)


def days(period: Window) -> list[date]:
    """The UTC days of which a period has a part."""
    first = period.start.astimezone(UTC).date()
    last = (period.end.astimezone(UTC) - timedelta(microseconds=1)).date()
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]

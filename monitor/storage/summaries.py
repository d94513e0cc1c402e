"""Window summaries as detectors take them, and when the last row came."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import BigInteger, Connection, DateTime, Row, Select, any_, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.schema import bins
from migrations.schema.monitoring import model_versions
from migrations.schema.summaries import summaries
from monitor.domain.window import Summary, Window, assemble


def of_version(
    connection: Connection, window: Window, model_version: str, modalities: Iterable[str]
) -> dict[str, Summary]:
    """Each modality's summary over the slots that start in the window; an empty one where there are none.

    Bins come in order of time. Raises IncomparableError where one version's slots come from
    different encoders, and BinsError on a summary that cannot be read.
    """
    rows = connection.execute(_of_version(window, model_version))
    return assembled(((row.slot_start, _summary(row)) for row in rows), modalities)


def assembled(slots: Iterable[tuple[datetime, Summary]], modalities: Iterable[str]) -> dict[str, Summary]:
    """Each modality's summary over slots given as (start, summary), in order of time, topic, partition and offset."""
    parts: dict[str, list[tuple[datetime, Summary]]] = {modality: [] for modality in modalities}
    for start, summary in slots:
        parts.setdefault(summary.modality, []).append((start, summary))
    return {modality: assemble(modality, kept) for modality, kept in parts.items()}


def _of_version(window: Window, model_version: str) -> Select[Any]:
    """Rows of the slots that start in the window, in order of time."""
    return (
        select(
            summaries.c.slot_start,
            summaries.c.modality,
            summaries.c.counts,
            summaries.c.bins,
            summaries.c.encoder_fingerprint,
            summaries.c.totals,
        )
        .where(
            summaries.c.slot_start >= window.start,
            summaries.c.slot_start < window.end,
            summaries.c.model_version == model_version,
        )
        .order_by(summaries.c.slot_start, summaries.c.topic, summaries.c.partition, summaries.c.first_offset)
    )


def _summary(row: Row[Any]) -> Summary:
    return Summary(row.modality, row.counts, bins.load(row.bins), row.encoder_fingerprint, row.totals)


AT_ONCE = 200  # rows fetched at a time: about 10 MB of bins


def by_slot(
    connection: Connection, window: Window, model_version: str, modalities: Iterable[str]
) -> Iterator[tuple[datetime, dict[str, Summary]]]:
    """Each slot that starts in the window, in order, with its summaries by modality; a bounded part is held at a time.

    Raises as `of_version` does.
    """
    yield from _in_slots(connection, _of_version(window, model_version), modalities)


def _in_slots(
    connection: Connection, query: Select[Any], modalities: Iterable[str]
) -> Iterator[tuple[datetime, dict[str, Summary]]]:
    of_modalities = query.where(summaries.c.modality.in_(list(modalities)))
    rows = connection.execution_options(yield_per=AT_ONCE).execute(of_modalities)
    for start, of_slot in groupby(rows, lambda row: row.slot_start):
        parts: dict[str, list[tuple[datetime, Summary]]] = defaultdict(list)
        for row in of_slot:
            parts[row.modality].append((start, _summary(row)))
        yield start, {modality: assemble(modality, kept) for modality, kept in parts.items()}


def versions_of(connection: Connection, window: Window, model: str) -> dict[str, int]:
    """The model's versions that answered in the window, with how many slots each wrote, the most first."""
    of_model = select(model_versions.c.version).where(model_versions.c.model == model)
    slots = func.count(summaries.c.slot_start.distinct())
    rows = connection.execute(
        select(summaries.c.model_version, slots)
        .where(
            summaries.c.slot_start >= window.start,
            summaries.c.slot_start < window.end,
            summaries.c.model_version.in_(of_model),
        )
        .group_by(summaries.c.model_version)
        .order_by(slots.desc(), summaries.c.model_version)
    )
    return dict(rows.all())


def sampled(
    connection: Connection, window: Window, model_version: str, modalities: Iterable[str], most: int
) -> Iterator[dict[str, Summary]]:
    """At most so many slots of the window, evenly spread, as `by_slot` gives them: a week costs what a day does.

    Raises as `of_version` does.
    """
    starts = connection.scalars(
        select(summaries.c.slot_start)
        .distinct()
        .where(
            summaries.c.slot_start >= window.start,
            summaries.c.slot_start < window.end,
            summaries.c.model_version == model_version,
        )
        .order_by(summaries.c.slot_start)
    ).all()
    count = min(most, len(starts))
    wanted = [starts[(2 * place + 1) * len(starts) // (2 * count)] for place in range(count)]
    chosen = summaries.c.slot_start == any_(cast(wanted, ARRAY(DateTime(timezone=True))))
    for _, found in _in_slots(connection, _of_version(window, model_version).where(chosen), modalities):
        yield found


def counts_of_all_versions(connection: Connection, window: Window, modalities: Iterable[str]) -> dict[str, Summary]:
    """Rows by status of each modality, whichever version answered: summaries without bins."""
    rows = connection.execute(
        select(summaries.c.modality, summaries.c.counts).where(
            summaries.c.slot_start >= window.start, summaries.c.slot_start < window.end
        )
    )
    return counted(((row.modality, row.counts) for row in rows), modalities)


def counted(rows: Iterable[tuple[str, Mapping[str, int]]], modalities: Iterable[str]) -> dict[str, Summary]:
    """Counts by modality added up: summaries without bins."""
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for modality, counts in rows:
        totals[modality].update(counts)
    return {modality: Summary(modality, dict(totals[modality])) for modality in modalities}


def written(connection: Connection, start: datetime, end: datetime) -> dict[datetime, tuple[int, int]]:
    """How often each slot of the time was written to, in two numbers that any later write changes.

    Rows of the slot, and the sum of their write times in milliseconds: no clock is compared with another.
    """
    milliseconds = cast(func.extract("epoch", summaries.c.updated_at) * 1000, BigInteger)
    rows = connection.execute(
        select(summaries.c.slot_start, func.count(), cast(func.sum(milliseconds), BigInteger))
        .where(summaries.c.slot_start >= start, summaries.c.slot_start < end)
        .group_by(summaries.c.slot_start)
    )
    return {slot: (rows_of_slot, total) for slot, rows_of_slot, total in rows}


def last_written(connection: Connection, now: datetime) -> datetime | None:
    """When a worker last wrote to the newest slot, by its clock; None where no row ever came.

    Slots that have not begun come of a clock that is wrong: they must not hide that the stream has stopped.
    """
    newest = select(func.max(summaries.c.slot_start)).where(summaries.c.slot_start <= now).scalar_subquery()
    last: datetime | None = connection.scalar(
        select(func.max(summaries.c.updated_at)).where(summaries.c.slot_start == newest)
    )
    return last

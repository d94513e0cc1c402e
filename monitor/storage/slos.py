"""Events of objectives: counted per slot out of summaries and dead letters, kept in buckets, added up over windows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, cast, delete, func, literal, or_, select
from sqlalchemy.dialects.postgresql import INTERVAL, insert
from sqlalchemy.sql.elements import ColumnElement

from migrations.schema.monitoring import model_versions
from migrations.schema.prediction_log import dead_letters
from migrations.schema.slos import slo_counts, slo_status
from migrations.schema.summaries import summaries
from migrations.schema.totals import LATENCY_EDGES_MS
from migrations.upsert import upsert_all
from monitor.domain.objectives import AGREEMENT, DEAD_LETTERS, sli_of_latency, sli_of_modality
from monitor.domain.schedule import floor
from monitor.domain.slo import Counts, total
from monitor.domain.window import FUSED, Window

BUCKET = timedelta(minutes=5)
PRESENT = "present"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Slot:
    """The events of one SLI in one slot."""

    sli: str
    start: datetime
    counts: Counts


@dataclass(frozen=True, slots=True)
class Sources:
    """What is counted: a model's slots, latencies in milliseconds by stage; refused messages but those of labels."""

    model: str
    slot: timedelta
    limits_ms: Mapping[str, int]
    label_topic: str


def per_slot(connection: Connection, sources: Sources, window: Window) -> list[Slot]:
    """Events of each slot that starts in the window. The cost grows with slots and partitions, not with traffic."""
    found: list[Slot] = []
    requests: dict[datetime, int] = defaultdict(int)
    for row in connection.execute(_summed(sources, window)).mappings():
        start = row["slot_start"]
        if row["modality"] != FUSED:
            found.append(Slot(sli_of_modality(row["modality"]), start, Counts(row["present"], row["events"])))
            continue
        requests[floor(start, sources.slot)] += row["requests"]
        found.append(Slot(AGREEMENT, start, Counts(row["agreed"], row["compared"])))
        found += [
            Slot(sli_of_latency(stage, limit), start, Counts(row[f"{stage}_good"], row[f"{stage}_valid"]))
            for stage, limit in sources.limits_ms.items()
        ]
    refused: dict[datetime, int] = dict(connection.execute(_refused(sources, window)).all())
    return found + [
        Slot(DEAD_LETTERS, start, Counts(requests[start], requests[start] + refused.get(start, 0)))
        for start in requests.keys() | refused.keys()
    ]


def _summed(sources: Sources, window: Window) -> Select[Any]:
    versions = select(model_versions.c.version).where(model_versions.c.model == sources.model)
    entry = func.jsonb_each_text(summaries.c.counts).table_valued("key", "value", name="entry")
    everything = select(func.sum(cast(entry.c.value, BigInteger))).scalar_subquery()
    columns = {
        "present": cast(summaries.c.counts[PRESENT].astext, BigInteger),
        "events": everything,
        "requests": func.coalesce(cast(summaries.c.counts["rows"].astext, BigInteger), 0)
        + func.coalesce(cast(summaries.c.counts["quarantined"].astext, BigInteger), 0),
        "agreed": cast(summaries.c.totals["agreement"][1].astext, BigInteger),
        "compared": _cells("agreement"),
    }
    for stage, limit in sources.limits_ms.items():
        columns[f"{stage}_good"] = _cells(f"latency.{stage}", LATENCY_EDGES_MS.index(limit) + 1)
        columns[f"{stage}_valid"] = _cells(f"latency.{stage}")
    return (
        select(
            summaries.c.slot_start,
            summaries.c.modality,
            *(cast(func.coalesce(func.sum(each), 0), BigInteger).label(name) for name, each in columns.items()),
        )
        .where(
            summaries.c.slot_start >= window.start,
            summaries.c.slot_start < window.end,
            summaries.c.model_version.in_(versions),
        )
        .group_by(summaries.c.slot_start, summaries.c.modality)
    )


def _cells(name: str, first: int | None = None) -> ColumnElement[Any]:
    """The sum of a row's cells of that name among its totals, or of the first so many of them."""
    cells = func.jsonb_array_elements_text(summaries.c.totals[name])
    cell = cells.table_valued("value", with_ordinality="place", name="cell").render_derived()
    query = select(func.sum(cast(cell.c.value, BigInteger)))
    return (query if first is None else query.where(cell.c.place <= first)).scalar_subquery()


def _refused(sources: Sources, window: Window) -> Select[Any]:
    width = cast(literal(f"{sources.slot.total_seconds()} seconds"), INTERVAL)
    slot = func.date_bin(width, dead_letters.c.recorded_at, _EPOCH)
    return (
        select(slot, func.count())
        .where(
            dead_letters.c.recorded_at >= window.start,
            dead_letters.c.recorded_at < window.end,
            dead_letters.c.topic != sources.label_topic,
        )
        .group_by(slot)
    )


def keep(connection: Connection, model: str, slots: Iterable[Slot]) -> None:
    """Write the buckets that these slots make up, each wholly: slots of a bucket must all be given."""
    buckets: dict[tuple[str, datetime], list[Counts]] = defaultdict(list)
    for slot in slots:
        buckets[slot.sli, floor(slot.start, BUCKET)].append(slot.counts)
    rows = []
    for (sli, start), parts in sorted(buckets.items()):
        counts = total(parts)
        rows.append({"model": model, "sli": sli, "bucket_start": start, "good": counts.good, "valid": counts.valid})
    statement = insert(slo_counts)
    new = statement.excluded
    changed = or_(slo_counts.c.good != new.good, slo_counts.c.valid != new.valid)
    upsert_all(
        connection,
        statement.on_conflict_do_update(
            constraint="pk_slo_counts", set_={"good": new.good, "valid": new.valid}, where=changed
        ),
        rows,
    )


def sums(
    connection: Connection, model: str, slis: Collection[str], end: datetime, lengths: Sequence[timedelta]
) -> dict[str, dict[timedelta, Counts]]:
    """By SLI and length, the events of the buckets that start within that length before `end`, to a bucket."""
    columns = []
    for length in lengths:
        within = slo_counts.c.bucket_start >= floor(end - length, BUCKET)
        columns += [func.coalesce(func.sum(each).filter(within), 0) for each in (slo_counts.c.good, slo_counts.c.valid)]
    rows = connection.execute(
        select(slo_counts.c.sli, *columns)
        .where(
            slo_counts.c.model == model,
            slo_counts.c.sli.in_(slis),
            slo_counts.c.bucket_start >= floor(end - max(lengths), BUCKET),
            slo_counts.c.bucket_start < end,
        )
        .group_by(slo_counts.c.sli)
    )
    found = {sli: dict.fromkeys(lengths, Counts()) for sli in slis}
    for sli, *figures in rows:
        pairs = zip(figures[::2], figures[1::2], strict=True)
        found[sli] = {
            length: Counts(int(good), int(valid)) for length, (good, valid) in zip(lengths, pairs, strict=True)
        }
    return found


def forget(connection: Connection, model: str, before: datetime) -> None:
    """Drop buckets that no window reaches any more."""
    connection.execute(delete(slo_counts).where(slo_counts.c.model == model, slo_counts.c.bucket_start < before))


def counted_until(connection: Connection, model: str, slis: Collection[str]) -> datetime | None:
    """Up to when all of these SLIs have been counted; None where one never was."""
    rows = connection.execute(
        select(slo_status.c.sli, slo_status.c.evaluated_at).where(
            slo_status.c.model == model, slo_status.c.sli.in_(slis)
        )
    )
    known: dict[str, datetime] = dict(rows.all())
    return min(known.values()) if known.keys() == set(slis) else None


def evaluated_at(connection: Connection, model: str) -> datetime | None:
    """When the objectives were last judged."""
    at: datetime | None = connection.scalar(
        select(func.max(slo_status.c.evaluated_at)).where(slo_status.c.model == model)
    )
    return at


def write_status(
    connection: Connection, model: str, at: datetime, states: Mapping[tuple[str, str], Mapping[str, Any]]
) -> None:
    """Write what is said of each objective, by (name, SLI); objectives that are no more are dropped."""
    connection.execute(delete(slo_status).where(slo_status.c.model == model))
    rows = [
        {"model": model, "slo": slo, "sli": sli, "evaluated_at": at, "state": dict(state)}
        for (slo, sli), state in states.items()
    ]
    if rows:
        connection.execute(insert(slo_status), rows)

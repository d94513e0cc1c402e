"""Requests and modalities, from the workers' summaries: the cost does not grow with traffic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Connection, Row, Select, cast, func, literal, select, true
from sqlalchemy.dialects.postgresql import INTERVAL, aggregate_order_by

from migrations.schema.monitoring import model_versions
from migrations.schema.prediction_log import dead_letters, prediction_log, request_ids
from migrations.schema.summaries import summaries
from monitor.domain.intervals import wilson
from monitor.storage.views.models.base import Period, VerdictName
from monitor.storage.views.models.traffic import (
    DeadLetterReason,
    DeadLetters,
    Latency,
    ModalityNow,
    Refused,
    Traffic,
    TrafficPoint,
    TrafficSeries,
)

FUSED = "fused"
PRESENT = "present"
FALLBACK = "fallback"
ROWS, QUARANTINED = "rows", "quarantined"
LAST_SEEN_HORIZON = timedelta(days=1)
LATENCY_SAMPLE = 1000
MAX_BUCKETS = 240
MAX_REASONS = 50
MAX_REFUSED = 50

Counts = dict[str, dict[str, int]]


def counts_by_modality(connection: Connection, model: str, period: Period) -> Counts:
    """Rows by status of each modality, and by route of `fused`, over the slots that start in the period."""
    totals: Counts = defaultdict(dict)
    for modality, key, rows in connection.execute(_counts(model, period)):
        totals[modality][key] = rows
    return dict(totals)


def _counts(model: str, period: Period) -> Select[str, str, int]:
    entry = func.jsonb_each_text(summaries.c.counts).table_valued("key", "value").lateral("entry")
    rows = cast(func.sum(cast(entry.c.value, BigInteger)), BigInteger)
    return (
        select(summaries.c.modality, entry.c.key, rows.label("rows"))
        .select_from(summaries)
        .join(entry, true())
        .where(
            summaries.c.slot_start >= period.start,
            summaries.c.slot_start < period.end,
            summaries.c.model_version.in_(_versions(model)),
        )
        .group_by(summaries.c.modality, entry.c.key)
    )


def _versions(model: str) -> Select[str]:
    return select(model_versions.c.version).where(model_versions.c.model == model)


def last_seen(connection: Connection, model: str, now: datetime) -> dict[str, datetime]:
    """When each modality was last present, to a slot; within LAST_SEEN_HORIZON. `fused` tells of any request."""
    end = summaries.c.slot_start + func.make_interval(0, 0, 0, 0, 0, 0, summaries.c.slot_seconds)
    seen = (summaries.c.modality == FUSED) | (cast(summaries.c.counts[PRESENT].astext, BigInteger) > 0)
    rows = connection.execute(
        select(summaries.c.modality, func.max(func.least(end, summaries.c.updated_at)).label("at"))
        .where(
            summaries.c.slot_start >= now - LAST_SEEN_HORIZON,
            summaries.c.slot_start <= now,
            summaries.c.model_version.in_(_versions(model)),
            seen,
        )
        .group_by(summaries.c.modality)
    )
    return {row.modality: row.at for row in rows}


def modalities_now(
    expected: Sequence[str], counts: Counts, seen: Mapping[str, datetime], verdicts: Mapping[str, VerdictName]
) -> list[ModalityNow]:
    """One entry for each modality that the model expects or that has come, in the model's order."""
    names = [*expected, *sorted(set(counts) - set(expected) - {FUSED})]
    return [_modality(name, counts.get(name, {}), seen.get(name), verdicts.get(name, "no_data")) for name in names]


def _modality(name: str, counts: Mapping[str, int], seen: datetime | None, verdict: VerdictName) -> ModalityNow:
    rows, present = sum(counts.values()), counts.get(PRESENT, 0)
    low, high = wilson(present, rows) if rows else (None, None)
    share = present / rows if rows else None
    return ModalityNow(
        modality=name,
        rows=rows,
        counts=dict(counts),
        share=share,
        low=low,
        high=high,
        last_seen=seen,
        verdict=verdict if rows else "no_data",
    )


def traffic_now(counts: Counts, period: Period) -> Traffic:
    """Requests, rate and routes over a period's counts."""
    by = counts.get(FUSED, {})
    routes, quarantined = _routes(by), by.get(QUARANTINED, 0)
    requests = sum(routes.values()) + quarantined
    return Traffic(
        requests=requests,
        per_second=requests / (period.end - period.start).total_seconds(),
        degraded=sum(rows for route, rows in routes.items() if route.startswith(FALLBACK)),
        quarantined=quarantined,
        routes=routes,
    )


def _routes(counts: Mapping[str, int]) -> dict[str, int]:
    """Of the counts of `fused` those by route; `rows` is their sum, and quarantined rows are in none of them."""
    return {route: rows for route, rows in counts.items() if route not in (ROWS, QUARANTINED)}


def latency_now(connection: Connection, model: str, period: Period) -> Latency:
    """Median and 95th percentile of the worker's total time, over at most LATENCY_SAMPLE newest requests."""
    newest = (
        select(request_ids.c.request_id, request_ids.c.logged_at)
        .where(request_ids.c.logged_at >= period.start, request_ids.c.logged_at < period.end)
        .order_by(request_ids.c.logged_at.desc())
        .limit(LATENCY_SAMPLE)
        .subquery()
    )
    total = prediction_log.c.total_ms
    row = connection.execute(
        select(
            func.count(),
            func.percentile_cont(0.5).within_group(total),
            func.percentile_cont(0.95).within_group(total),
        )
        .select_from(newest)
        .join(
            prediction_log,
            (prediction_log.c.request_id == newest.c.request_id) & (prediction_log.c.logged_at == newest.c.logged_at),
        )
        .where(
            # given again so that the planner leaves out the other days' partitions
            prediction_log.c.logged_at >= period.start,
            prediction_log.c.logged_at < period.end,
            prediction_log.c.model_version.in_(_versions(model)),
        )
    ).one()
    return Latency(sample=row[0], p50_ms=row[1], p95_ms=row[2])


def traffic_series(
    connection: Connection, model: str, period: Period, slot_seconds: int, max_buckets: int = MAX_BUCKETS
) -> TrafficSeries:
    """Requests by route and rows by status over a period, in at most `max_buckets` buckets of whole slots."""
    seconds = (period.end - period.start).total_seconds()
    width = slot_seconds * max(1, -int(-seconds // (max_buckets * slot_seconds)))
    bucket = func.date_bin(cast(literal(f"{width} seconds"), INTERVAL), summaries.c.slot_start, period.start)
    query = _counts(model, period).add_columns(bucket.label("at")).group_by(bucket).order_by(bucket)
    points: dict[datetime, Counts] = {}
    row: Row[str, str, int, datetime]
    for row in connection.execute(query):
        modality, key, rows, at = row
        points.setdefault(at, {}).setdefault(modality, {})[key] = rows
    return TrafficSeries(
        bucket_seconds=width,
        points=[
            TrafficPoint(at=at, routes=_routes(counts.pop(FUSED, {})), modalities=counts)
            for at, counts in points.items()
        ],
    )


def dead_letters_by_reason(connection: Connection, period: Period) -> DeadLetters:
    """Refused messages of the period by reason, at most MAX_REASONS of them, the most frequent first."""
    code, at = dead_letters.c.error_code, dead_letters.c.recorded_at
    detail = func.array_agg(aggregate_order_by(dead_letters.c.error_detail, at.desc()))[1]
    rows = connection.execute(
        select(code, func.count(), func.max(at), detail)
        .where(at >= period.start, at < period.end)
        .group_by(code)
        .order_by(func.count().desc(), code)
        .limit(MAX_REASONS)
    ).all()
    reasons = [DeadLetterReason(error_code=c, count=n, last_at=last, last_detail=d) for c, n, last, d in rows]
    return DeadLetters(period=period, total=sum(each.count for each in reasons), reasons=reasons)


def refused_over_time(connection: Connection, period: Period, buckets: int) -> list[tuple[datetime, int]]:
    """Refused messages in each of so many equal parts of the period that has any: its start, and how many."""
    at = dead_letters.c.recorded_at
    width = (period.end - period.start) / buckets
    bucket = func.date_bin(cast(literal(f"{width.total_seconds()} seconds"), INTERVAL), at, period.start)
    query = select(bucket, func.count()).where(at >= period.start, at < period.end)
    return [(start, count) for start, count in connection.execute(query.group_by(bucket).order_by(bucket))]


def newest_refused(connection: Connection, period: Period, error_code: str | None = None) -> list[Refused]:
    """The newest refused messages of the period, at most MAX_REFUSED, of one reason where it is given."""
    at = dead_letters.c.recorded_at
    query = select(*[dead_letters.c[name] for name in Refused.model_fields]).where(at >= period.start, at < period.end)
    if error_code is not None:
        query = query.where(dead_letters.c.error_code == error_code)
    rows = connection.execute(query.order_by(at.desc()).limit(MAX_REFUSED)).mappings()
    return [Refused.model_validate(dict(row)) for row in rows]

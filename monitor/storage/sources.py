"""Which producers a moved statistic comes from."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Float, cast, func, select

from migrations.schema.prediction_log import modality_log, prediction_log, request_ids
from monitor.domain.attribution import Source
from monitor.domain.window import Window

MOST_ROWS = 5_000  # of a window, the first so many are looked at, however many there are
MOST_SOURCES = 5


def shares(
    connection: Connection, window: Window, modality: str, statistic: str, *, baseline: float
) -> tuple[Source, ...]:
    """Sources by their share in how far a quality statistic is from the baseline's mean, the largest first.

    Shares are of the absolute deviations summed over sources; requests without a source count under `unknown`.
    """
    ids = (
        select(request_ids.c.request_id, request_ids.c.logged_at)
        .where(request_ids.c.logged_at >= window.start, request_ids.c.logged_at < window.end)
        .order_by(request_ids.c.logged_at)
        .limit(MOST_ROWS)
        .subquery()
    )
    source = func.coalesce(prediction_log.c.source, "unknown").label("source")
    value = cast(modality_log.c.quality[statistic].astext, Float)
    rows = connection.execute(
        select(source, func.count(value).label("n"), func.avg(value).label("mean"))
        .select_from(ids)
        .join(
            prediction_log,
            (prediction_log.c.request_id == ids.c.request_id) & (prediction_log.c.logged_at == ids.c.logged_at),
        )
        .join(
            modality_log,
            (modality_log.c.request_id == ids.c.request_id) & (modality_log.c.logged_at == ids.c.logged_at),
        )
        .where(modality_log.c.modality == modality, modality_log.c.status == "present")
        .group_by(source)
    ).all()
    return ranked({row.source: (row.n, row.mean) for row in rows if row.n}, baseline)


def ranked(means: Mapping[str, tuple[int, float]], baseline: float) -> tuple[Source, ...]:
    """Sources, given with rows and mean of each, by their share in how far the statistic is from the baseline."""
    moved = {source: n * abs(mean - baseline) for source, (n, mean) in means.items()}
    total = sum(moved.values())
    if total == 0:
        return ()
    largest = sorted(moved, key=lambda name: -moved[name])[:MOST_SOURCES]
    return tuple(Source(name, means[name][0], round(moved[name] / total, 3)) for name in largest)

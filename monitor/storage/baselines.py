"""A version's own baseline, as detectors take it."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, ScalarSelect, select

from migrations.schema import bins
from migrations.schema.monitoring import EVERY_HOUR, baseline_summaries, baselines
from monitor.domain.window import Reference, Summary


def in_use(version: ColumnElement[str] | str) -> ScalarSelect[int]:
    """The id of the baseline that a version is compared with: the pinned one, else its first; null without one."""
    one = baselines.alias()  # its own name, as queries that join baselines use it too
    return (
        select(one.c.baseline_id)
        .where(one.c.model_version == version)
        .order_by(one.c.pinned.desc(), one.c.number)
        .limit(1)
        .scalar_subquery()
    )


def chosen(connection: Connection, model_version: str) -> int | None:
    """The id of the baseline that a version is compared with, None without one."""
    found: int | None = connection.scalar(select(in_use(model_version)))
    return found


def of_version(connection: Connection, model_version: str) -> Reference | None:
    """The baseline of a version, None where it brought none. Raises BinsError where it cannot be read."""
    found = connection.execute(select(baselines).where(baselines.c.baseline_id == in_use(model_version))).first()
    if found is None:
        return None
    rows = connection.execute(
        select(baseline_summaries)
        .where(baseline_summaries.c.baseline_id == found.baseline_id, baseline_summaries.c.hour == EVERY_HOUR)
        .order_by(baseline_summaries.c.modality)
    )
    parts = [Summary(row.modality, row.counts, bins.load(row.bins), row.encoder_fingerprint) for row in rows]
    return Reference.from_facts(found.baseline_id, model_version, found.facts, parts)

"""A version's own baseline, as detectors take it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from migrations.schema import bins
from migrations.schema.monitoring import baseline_summaries, baselines
from monitor.domain.window import Reference, Summary


def of_version(connection: Connection, model_version: str) -> Reference | None:
    """The baseline of a version, None where it brought none. Raises BinsError where it cannot be read."""
    found = connection.execute(select(baselines).where(baselines.c.model_version == model_version)).first()
    if found is None:
        return None
    rows = connection.execute(
        select(baseline_summaries)
        .where(baseline_summaries.c.baseline_id == found.baseline_id)
        .order_by(baseline_summaries.c.modality)
    )
    parts = [Summary(row.modality, row.counts, bins.load(row.bins), row.encoder_fingerprint) for row in rows]
    return Reference.from_facts(found.baseline_id, model_version, found.facts, parts)

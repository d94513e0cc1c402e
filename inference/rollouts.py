"""The open rollout in the database, as workers follow it, and what they say of its challenger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from migrations.schema.monitoring import model_versions
from migrations.schema.rollouts import rollout_reports, rollouts, shadow_log
from migrations.upsert import upsert_all

READY, REFUSED, FAILED = "ready", "refused", "failed"
MOST_DETAIL = 500  # characters


@dataclass(frozen=True, slots=True)
class Rollout:
    """A challenger and what is done with it: `share` in [0, 1] of batches in shadow, of requests in canary."""

    rollout_id: int
    version: str
    folder: Path
    stage: str
    share: float


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """What a challenger said of one request, beside the champion's answer. Milliseconds are those of the batch."""

    rollout_id: int
    request_id: str
    status: str
    prediction: str | None
    confidence: float | None
    model_ms: float | None
    champion_prediction: str
    champion_confidence: float
    champion_model_ms: float


def current(connection: Connection, model: str) -> Rollout | None:
    """The model's open rollout; None where there is none."""
    row = connection.execute(
        select(
            rollouts.c.rollout_id, rollouts.c.version, model_versions.c.checkpoint, rollouts.c.stage, rollouts.c.percent
        )
        .join(model_versions, model_versions.c.version == rollouts.c.version)
        .where(rollouts.c.model == model, rollouts.c.outcome.is_(None))
    ).first()
    return None if row is None else Rollout(row[0], row[1], Path(row[2]), row[3], row[4] / 100)


def report(connection: Connection, rollout_id: int, worker_id: str, state: str, detail: str = "") -> None:
    """Keep this worker's newest word on the challenger: READY, REFUSED or FAILED."""
    said = {"state": state, "detail": detail[:MOST_DETAIL], "reported_at": datetime.now(UTC)}
    statement = upsert(rollout_reports).values(rollout_id=rollout_id, worker_id=worker_id, **said)
    connection.execute(statement.on_conflict_do_update(index_elements=["rollout_id", "worker_id"], set_=said))


def log_shadow(connection: Connection, rows: Sequence[ShadowRow]) -> None:
    """Keep what the challenger said; of a request that was seen before, the first word stays."""
    now = datetime.now(UTC)
    for rollout_id in sorted({row.rollout_id for row in rows}):
        # no constraint spans the partitions: writers of one rollout take turns and look
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("shadow_log", rollout_id))))
        said = [row for row in rows if row.rollout_id == rollout_id]
        known = set(
            connection.scalars(
                select(shadow_log.c.request_id).where(
                    shadow_log.c.rollout_id == rollout_id, shadow_log.c.request_id.in_([row.request_id for row in said])
                )
            )
        )
        fresh = [{**asdict(row), "logged_at": now} for row in said if row.request_id not in known]
        upsert_all(connection, upsert(shadow_log).on_conflict_do_nothing(), fresh)

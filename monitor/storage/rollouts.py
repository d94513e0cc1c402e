"""Rollouts: where a challenger is, what was checked, and what it and the champion answered meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from migrations.schema.prediction_log import labels, prediction_log
from migrations.schema.rollouts import rollout_checks, rollout_reports, rollouts, shadow_log
from monitor.domain.rollout import ROLLED_BACK, Answered, Outcome, Place, Reason, Shadowed

MOST_SHADOWED = 100_000  # requests of one shadow that are looked at, the first ones


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout. Rows logged before `checked_until` were looked at by a check that decided something."""

    rollout_id: int
    version: str
    champion: str
    job_id: int | None
    place: Place
    checked_until: datetime
    started_at: datetime
    outcome: str | None
    reason: str | None
    ended_at: datetime | None


def _rollout(row: Row[Any]) -> Rollout:
    return Rollout(
        row.rollout_id,
        row.version,
        row.champion,
        row.job_id,
        Place(row.stage, row.percent, row.failed_checks, row.passed_checks),
        row.checked_until,
        row.started_at,
        row.outcome,
        row.reason,
        row.ended_at,
    )


def open_one(connection: Connection, model: str) -> Rollout | None:
    """The model's open rollout, its row locked until the transaction ends; None where there is none."""
    query = select(rollouts).where(rollouts.c.model == model, rollouts.c.outcome.is_(None))
    row = connection.execute(query.with_for_update()).first()
    return None if row is None else _rollout(row)


def newest(connection: Connection, model: str, limit: int) -> Sequence[Rollout]:
    """The model's rollouts, newest first."""
    query = select(rollouts).where(rollouts.c.model == model).order_by(rollouts.c.rollout_id.desc()).limit(limit)
    return [_rollout(row) for row in connection.execute(query)]


def start(
    connection: Connection, model: str, *, version: str, champion: str, job_id: int | None, place: Place, now: datetime
) -> int | None:
    """Open a rollout; None where the model has an open one (the partial unique index decides)."""
    statement = upsert(rollouts).values(
        model=model,
        version=version,
        champion=champion,
        job_id=job_id,
        stage=place.stage,
        percent=place.percent,
        step_since=now,
        checked_until=now,
        started_at=now,
    )
    rollout_id: int | None = connection.scalar(statement.on_conflict_do_nothing().returning(rollouts.c.rollout_id))
    return rollout_id


def move(connection: Connection, rollout: Rollout, place: Place, now: datetime) -> None:
    """Keep where a rollout is after a check that decided something about rows until now."""
    stepped = (place.stage, place.percent) != (rollout.place.stage, rollout.place.percent)
    connection.execute(
        update(rollouts)
        .where(rollouts.c.rollout_id == rollout.rollout_id)
        .values(
            stage=place.stage,
            percent=place.percent,
            failed_checks=place.failed,
            passed_checks=place.passed,
            checked_until=now,
            **({"step_since": now} if stepped else {}),
        )
    )


def end(connection: Connection, rollout: Rollout, outcome: str, reason: str, now: datetime) -> None:
    """Close a rollout: workers let its challenger go."""
    connection.execute(
        update(rollouts)
        .where(rollouts.c.rollout_id == rollout.rollout_id)
        .values(outcome=outcome, reason=reason, ended_at=now)
    )


def record_check(
    connection: Connection, rollout: Rollout, outcome: Outcome, reasons: Sequence[Reason], now: datetime
) -> None:
    """Keep a check. Of several in a row that could not tell, the first stands for all."""
    last = connection.scalar(
        select(rollout_checks.c.outcome)
        .where(rollout_checks.c.rollout_id == rollout.rollout_id)
        .order_by(rollout_checks.c.check_id.desc())
        .limit(1)
    )
    if outcome is Outcome.INCONCLUSIVE and last == str(outcome):
        return
    connection.execute(
        insert(rollout_checks).values(
            rollout_id=rollout.rollout_id,
            stage=rollout.place.stage,
            percent=rollout.place.percent,
            outcome=str(outcome),
            reasons=[asdict(reason) for reason in reasons],
            checked_at=now,
        )
    )


def checks(connection: Connection, rollout_id: int) -> Sequence[Row[Any]]:
    """A rollout's checks, oldest first."""
    query = select(rollout_checks).where(rollout_checks.c.rollout_id == rollout_id)
    return connection.execute(query.order_by(rollout_checks.c.check_id)).all()


def ended_by_check(connection: Connection, rollout: Rollout) -> bool:
    """Whether it was a failed check that took the challenger away, and not a person or another champion."""
    table = rollout_checks.c
    query = select(table.check_id).where(
        table.rollout_id == rollout.rollout_id, table.outcome == "failed", table.checked_at == rollout.ended_at
    )
    return rollout.outcome == ROLLED_BACK and connection.scalar(query) is not None


def complaints(connection: Connection, rollout_id: int, since: datetime) -> list[str]:
    """What workers said since then that refused the challenger, or that it failed."""
    said = rollout_reports.c
    rows = connection.execute(
        select(said.worker_id, said.state, said.detail).where(
            said.rollout_id == rollout_id, said.state != "ready", said.reported_at >= since
        )
    )
    return [f"worker {row.worker_id} {row.state} it: {row.detail}" for row in rows]


def answered(
    connection: Connection, version: str, *, since: datetime, until: datetime, labelled_since: datetime
) -> Answered:
    """What a version answered in [since, until), and how right it was from `labelled_since` on."""
    log = prediction_log.c
    usable = log.status == "ok"
    row = connection.execute(
        select(
            func.count().label("rows"),
            func.count().filter(~usable).label("errors"),
            func.percentile_cont(0.95).within_group(log.encode_ms + log.fuse_ms).filter(usable).label("p95"),
            func.count().filter(log.agreement).label("agreed"),
            func.count(log.agreement).label("heads"),
        ).where(log.model_version == version, log.logged_at >= since, log.logged_at < until)
    ).one()
    right = connection.execute(
        select(func.count().filter(log.prediction == labels.c.label), func.count())
        .join(labels, labels.c.request_id == log.request_id)
        .where(log.model_version == version, usable, log.logged_at >= labelled_since, log.logged_at < until)
    ).one()
    return Answered(row.rows, row.errors, row.p95 or 0.0, (row.agreed, row.heads), (right[0], right[1]))


def shadowed(connection: Connection, rollout_id: int, class_names: tuple[str, ...], slowdown: float) -> Shadowed:
    """What a challenger in shadow said beside the champion, until now."""
    seen = shadow_log.c
    rows = connection.execute(
        select(seen.status, seen.prediction, seen.champion_prediction, seen.model_ms, seen.champion_model_ms)
        .where(seen.rollout_id == rollout_id)
        .order_by(seen.shadow_id)
        .limit(MOST_SHADOWED)
    ).all()
    fine = [row for row in rows if row.status == "ok"]
    labelled = connection.execute(
        select(seen.prediction, seen.champion_prediction, labels.c.label)
        .join(labels, labels.c.request_id == seen.request_id)
        .where(seen.rollout_id == rollout_id, seen.status == "ok")
        .order_by(labels.c.received_at, seen.shadow_id)
        .limit(MOST_SHADOWED)
    ).all()
    numbers = {name: number for number, name in enumerate(class_names)}
    return Shadowed(
        failed=_floats([row.status != "ok" for row in rows]),
        differs=_floats([row.prediction != row.champion_prediction for row in fine]),
        slower=_floats([row.model_ms > slowdown * row.champion_model_ms for row in fine]),
        champion=np.array([numbers.get(row.champion_prediction, -1) for row in fine], np.intp),
        challenger=np.array([numbers.get(row.prediction, -1) for row in fine], np.intp),
        gained=_floats([(row[0] == row.label) - (row[1] == row.label) for row in labelled]),
    )


def _floats(values: Sequence[float]) -> NDArray[np.float64]:
    return np.array(values, np.float64)

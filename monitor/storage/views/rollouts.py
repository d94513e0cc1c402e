"""Which version answers, how it came to, and the challengers beside it: where each is and what its checks said."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import Connection, Select, func, select

from migrations.schema.monitoring import audit_log
from migrations.schema.rollouts import rollout_checks, rollout_reports, rollouts
from monitor.storage import models
from monitor.storage.views.models.base import Page, Read
from monitor.storage.views.models.champion import Champion
from monitor.storage.views.work import champion

CHECKS_SHOWN = 20  # of each rollout, the newest
MOVES_SHOWN = 20
# What moves the champion alias, as the audit log calls it.
MOVES = (models.PROMOTED, models.ROLLED_BACK, "adopt_champion", "follow_champion")

Outcome = Literal["passed", "failed", "inconclusive"]
Stage = Literal["shadow", "canary"]


class ComparisonView(Read):
    """One comparison of a check, with its words."""

    name: str
    outcome: Outcome
    text: str


class CheckView(Read):
    """A check of a challenger beside the champion. Of several in a row that could not tell, the first is kept."""

    check_id: int
    stage: Stage
    percent: int
    outcome: Outcome
    reasons: list[ComparisonView]
    checked_at: datetime


class WorkerView(Read):
    """What a worker said last of the challenger."""

    worker_id: str
    state: Literal["ready", "refused", "failed"]
    detail: str
    reported_at: datetime


class RolloutView(Read):
    """A challenger's way: `percent` of batches run through it in shadow, of requests are its own in canary."""

    rollout_id: int
    version: str
    champion: str = Field(description="what it is measured against")
    job_id: int | None = Field(description="the job that trained it; null where a person began the rollout")
    stage: Stage
    percent: int
    failed_checks: int = Field(description="in a row")
    passed_checks: int = Field(description="at this step")
    step_since: datetime
    started_at: datetime
    outcome: Literal["promoted", "rolled_back"] | None = Field(description="null while it is open")
    reason: str | None
    ended_at: datetime | None
    checks: list[CheckView] = Field(description=f"the newest {CHECKS_SHOWN}, newest first")
    workers: list[WorkerView]


class MoveView(Read):
    """One change of the champion, as it was audited."""

    audit_id: int
    at: datetime
    actor: str
    action: Literal["promoted", "rolled_back", "adopt_champion", "follow_champion"]
    version: str
    former: str | None = Field(description="the version it took the place of")
    reason: str | None


class ChampionState(Read):
    """The version that answers, what a rollback would bring back, the challenger beside it, and how it came to."""

    champion: Champion | None = Field(description="null before a worker has registered a version")
    rolls_back_to: str | None
    challenger: RolloutView | None = Field(description="of the open rollout")
    moves: list[MoveView] = Field(description=f"the newest {MOVES_SHOWN}, newest first")


def rollouts_page(connection: Connection, model: str, *, limit: int, cursor: int | None = None) -> Page[RolloutView]:
    """Rollouts newest first, those with a smaller id than `cursor`."""
    query = _rollouts(model)
    if cursor is not None:
        query = query.where(rollouts.c.rollout_id < cursor)
    rows = connection.execute(query.order_by(rollouts.c.rollout_id.desc()).limit(limit + 1)).mappings().all()
    items = _shown(connection, [dict(row) for row in rows[:limit]])
    return Page(items=items, next_cursor=items[-1].rollout_id if len(rows) > limit else None)


def open_rollout(connection: Connection, model: str) -> RolloutView | None:
    """The rollout under way; the schema allows one for each model."""
    rows = connection.execute(_rollouts(model).where(rollouts.c.outcome.is_(None))).mappings().all()
    return next(iter(_shown(connection, [dict(row) for row in rows])), None)


def champion_state(connection: Connection, model: str) -> ChampionState:
    """Which version answers now, and what stands before and beside it."""
    now = champion(connection, model)
    return ChampionState(
        champion=now,
        rolls_back_to=None if now is None else models.former_champion(connection, model, now.version),
        challenger=open_rollout(connection, model),
        moves=moves(connection, model),
    )


def moves(connection: Connection, model: str) -> list[MoveView]:
    """The newest changes of a model's champion, newest first."""
    told = audit_log.c.details
    rows = connection.execute(
        select(
            audit_log.c.audit_id,
            audit_log.c.at,
            audit_log.c.actor,
            audit_log.c.action,
            func.coalesce(told["version"].astext, audit_log.c.subject).label("version"),
            told["from"].astext.label("former"),
            told["reason"].astext.label("reason"),
        )
        .where(audit_log.c.action.in_(MOVES), told["model"].astext == model)
        .order_by(audit_log.c.audit_id.desc())
        .limit(MOVES_SHOWN)
    )
    return [MoveView.model_validate(dict(row)) for row in rows.mappings()]


def _rollouts(model: str) -> Select[*tuple[Any, ...]]:
    shown = [name for name in RolloutView.model_fields if name not in ("checks", "workers")]
    return select(*[rollouts.c[name] for name in shown]).where(rollouts.c.model == model)


def _shown(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[RolloutView]:
    ids = [row["rollout_id"] for row in rows]
    checks, workers = _checks(connection, ids), _workers(connection, ids)
    return [
        RolloutView.model_validate({**row, "checks": checks[row["rollout_id"]], "workers": workers[row["rollout_id"]]})
        for row in rows
    ]


def _checks(connection: Connection, ids: Sequence[int]) -> dict[int, list[CheckView]]:
    table = rollout_checks.c
    place = func.row_number().over(partition_by=table.rollout_id, order_by=table.check_id.desc()).label("place")
    numbered = select(rollout_checks, place).where(table.rollout_id.in_(ids)).subquery()
    query = select(numbered).where(numbered.c.place <= CHECKS_SHOWN).order_by(numbered.c.check_id.desc())
    found: dict[int, list[CheckView]] = {each: [] for each in ids}
    for row in connection.execute(query).mappings():
        found[row["rollout_id"]].append(CheckView.model_validate(dict(row)))
    return found


def _workers(connection: Connection, ids: Sequence[int]) -> dict[int, list[WorkerView]]:
    table = rollout_reports.c
    query = select(rollout_reports).where(table.rollout_id.in_(ids)).order_by(table.worker_id)
    found: dict[int, list[WorkerView]] = {each: [] for each in ids}
    for row in connection.execute(query).mappings():
        found[row["rollout_id"]].append(WorkerView.model_validate(dict(row)))
    return found

"""Decisions about retraining with their reasons, and people's approvals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select, update

from migrations.schema.monitoring import jobs, retrain_decisions
from migrations.schema.retraining import retrain_approvals
from monitor.domain.job import Decision
from monitor.domain.policy import Approval

Evidence = Mapping[str, Sequence[int]]


def record(
    connection: Connection,
    model: str,
    decision: Decision,
    *,
    model_version: str,
    evidence: Evidence,
    job_id: int | None,
    now: datetime,
) -> bool:
    """Keep a decision; whether that took a new row.

    A "no" whose conditions are met and unmet as in the last row is that row again: its words and its time are renewed,
    so that rows are bounded by what changes and not by how often anyone looks.
    """
    last = connection.execute(
        select(retrain_decisions)
        .where(retrain_decisions.c.model == model)
        .order_by(retrain_decisions.c.decision_id.desc())
        .limit(1)
    ).first()
    reasons = [asdict(condition) for condition in decision.conditions]
    told = {"reasons": reasons, "evidence": {name: list(ids) for name, ids in evidence.items()}, "confirmed_at": now}
    same = (
        job_id is None
        and last is not None
        and last.job_id is None
        and (last.retrain, last.model_version) == (decision.retrain, model_version)
        and _met(last.reasons) == _met(reasons)
    )
    if same and last is not None:
        if (last.reasons, last.evidence) != (told["reasons"], told["evidence"]):
            chosen = retrain_decisions.c.decision_id == last.decision_id
            connection.execute(update(retrain_decisions).where(chosen).values(**told))
        return False
    connection.execute(
        insert(retrain_decisions).values(
            model=model,
            model_version=model_version,
            retrain=decision.retrain,
            job_id=job_id,
            decided_at=now,
            **told,
        )
    )
    return True


def _met(reasons: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    return {reason["name"]: reason["met"] for reason in reasons}


def approve(
    connection: Connection,
    model: str,
    model_version: str,
    *,
    actor: str,
    reason: str,
    now: datetime,
    expires_at: datetime,
) -> Approval:
    """Keep a person's approval of a retrain of a version."""
    approval_id = connection.scalar(
        insert(retrain_approvals)
        .values(
            model=model,
            model_version=model_version,
            actor=actor,
            reason=reason,
            expires_at=expires_at,
            created_at=now,
        )
        .returning(retrain_approvals.c.approval_id)
    )
    assert approval_id is not None
    return Approval(approval_id, actor, reason, expires_at)


def approval(connection: Connection, model: str, model_version: str, now: datetime) -> Approval | None:
    """The newest approval of a version that no job has used up and that has not expired."""
    table = retrain_approvals.c
    row = connection.execute(
        select(retrain_approvals)
        .where(
            table.model == model,
            table.model_version == model_version,
            table.job_id.is_(None),
            table.expires_at > now,
        )
        .order_by(table.approval_id.desc())
        .limit(1)
    ).first()
    return None if row is None else Approval(row.approval_id, row.actor, row.reason, row.expires_at)


def use_up(connection: Connection, model: str, model_version: str, job_id: int) -> None:
    """Every open approval of a version has led to a job now."""
    table = retrain_approvals.c
    connection.execute(
        update(retrain_approvals)
        .where(table.model == model, table.model_version == model_version, table.job_id.is_(None))
        .values(job_id=job_id)
    )


def compute_used(connection: Connection, model: str, since: datetime) -> timedelta:
    """Computing time of the model's jobs that are under way or ended since then: of every attempt, whatever it led to.

    A job counts whole, with what it computed before then.
    """
    used = func.coalesce(func.sum(jobs.c.compute_seconds), 0.0)
    recent = or_(jobs.c.finished_at.is_(None), jobs.c.finished_at > since)
    return timedelta(seconds=float(connection.scalar(select(used).where(jobs.c.model == model, recent)) or 0.0))

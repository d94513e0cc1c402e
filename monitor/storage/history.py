"""The rows of retrain chains, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, and_, func, or_, select

from migrations.schema.monitoring import alerts, audit_log, findings, jobs, retrain_decisions
from migrations.schema.retraining import label_rounds
from migrations.schema.rollouts import rollout_checks, rollouts
from monitor.domain.history import Kept, Row
from monitor.storage.models import ROLLED_BACK


def newest(connection: Connection, model: str, limit: int, before: int | None = None) -> list[Kept]:
    """What is kept of the model's newest jobs, at most `limit`, those with an id below `before` where that is given.

    The first one is the newest decision where that is a "no" that came after every job; `before` leaves it out.
    """
    query = select(jobs).where(jobs.c.model == model)
    if before is not None:
        query = query.where(jobs.c.job_id < before)
    # one more than is shown: labels asked for before the job before belong to that
    found = [dict(row) for row in connection.execute(_last(query, jobs.c.job_id, limit + 1)).mappings()]
    kept = []
    waiting = None if before is not None else _waiting(connection, model)
    if waiting is not None:
        kept.append(_with_evidence(connection, model, waiting, None, found[0]["created_at"] if found else None))
    for place, job in enumerate(found[:limit]):
        earlier = found[place + 1]["created_at"] if place + 1 < len(found) else None
        decision = _first(connection, select(retrain_decisions).where(retrain_decisions.c.job_id == job["job_id"]))
        kept.append(_with_evidence(connection, model, decision, job, earlier))
    return kept[:limit]


def _last(query: Any, by: Any, limit: int) -> Any:
    return query.order_by(by.desc()).limit(limit)


def _waiting(connection: Connection, model: str) -> Row | None:
    query = select(retrain_decisions).where(retrain_decisions.c.model == model)
    row = _first(connection, _last(query, retrain_decisions.c.decision_id, 1))
    return row if row is not None and row["job_id"] is None else None


def _first(connection: Connection, query: Any) -> Row | None:
    row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


def _with_evidence(
    connection: Connection, model: str, decision: Row | None, job: Row | None, since: datetime | None
) -> Kept:
    evidence = {} if decision is None else decision["evidence"]
    return Kept(
        decision,
        job,
        findings=_of(connection, findings, findings.c.finding_id, evidence.get("findings", ())),
        alerts=_of(connection, alerts, alerts.c.alert_id, evidence.get("alerts", ())),
        rounds=[] if decision is None else _rounds(connection, model, decision, since),
        audit=[] if job is None else _audit(connection, job),
        stages=[] if job is None else _stages(connection, job),
    )


def _of(connection: Connection, table: Table, key: Any, ids: Iterable[int]) -> Sequence[Row]:
    wanted = list(ids)
    if not wanted:
        return []
    rows = connection.execute(select(table).where(key.in_(wanted)).order_by(key)).mappings()
    return [dict(row) for row in rows]


def _rounds(connection: Connection, model: str, decision: Row, since: datetime | None) -> Sequence[Row]:
    """Labels that were asked for before the decision, and after the job before."""
    table = label_rounds.c
    query = select(label_rounds).where(
        table.model == model,
        table.model_version == decision["model_version"],
        table.created_at <= (decision["confirmed_at"] or decision["decided_at"]),
    )
    if since is not None:
        query = query.where(table.created_at > since)
    return [dict(row) for row in connection.execute(query.order_by(table.round_id)).mappings()]


def _audit(connection: Connection, job: Row) -> Sequence[Row]:
    """Whatever names the job, or the version that it made: a rollback long after too."""
    job_id, table = str(job["job_id"]), audit_log.c
    names = [table.details["job_id"].astext == job_id, table.subject == f"job {job_id}"]
    made = ((job["result"] or {}).get("candidate") or {}).get("version")
    if made:
        back = and_(table.action == ROLLED_BACK, table.details["from"].astext == made)
        names += [table.subject == made, back]
    query = select(audit_log).where(table.at >= job["created_at"], or_(*names))
    return [dict(row) for row in connection.execute(query.order_by(table.audit_id)).mappings()]


def _stages(connection: Connection, job: Row) -> Sequence[Row]:
    """By step of the challenger's way, the first step first: how its checks ended, and what the last one said."""
    table = rollout_checks.c
    outcomes = [func.count().filter(table.outcome == name).label(name) for name in ("passed", "failed", "inconclusive")]
    counted = (
        select(
            table.rollout_id,
            table.stage,
            table.percent,
            func.min(table.checked_at).label("since"),
            func.max(table.check_id).label("last"),
            *outcomes,
        )
        .join(rollouts, rollouts.c.rollout_id == table.rollout_id)
        .where(rollouts.c.job_id == job["job_id"])
        .group_by(table.rollout_id, table.stage, table.percent)
        .subquery()
    )
    query = select(counted, table.reasons).join(rollout_checks, table.check_id == counted.c.last)
    return [dict(row) for row in connection.execute(query.order_by(counted.c.last)).mappings()]

"""Retrain jobs. The database carries the rule of one active job per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from migrations.schema.monitoring import jobs
from monitor.domain.job import ACTIVE, JobState, may_become


@dataclass(frozen=True, slots=True)
class Job:
    """One retrain job as the monitor sees it."""

    job_id: int
    model: str
    state: JobState
    spec: Mapping[str, Any]
    progress: Mapping[str, Any]
    lineage: Mapping[str, Any] | None
    launch: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    error: str | None
    attempts: int
    compute_seconds: float
    tracking: Mapping[str, Any] | None
    claimed_by: str | None
    lease_until: datetime | None
    deadline: datetime
    created_at: datetime
    finished_at: datetime | None


def _job(row: Any) -> Job:
    return Job(
        row.job_id,
        row.model,
        JobState(row.state),
        row.spec,
        row.progress,
        row.lineage,
        row.launch,
        row.result,
        row.error,
        row.attempts,
        row.compute_seconds,
        row.tracking,
        row.claimed_by,
        row.lease_until,
        row.deadline,
        row.created_at,
        row.finished_at,
    )


def newest(connection: Connection, model: str, limit: int) -> Sequence[Job]:
    """The model's jobs, newest first."""
    rows = connection.execute(select(jobs).where(jobs.c.model == model).order_by(jobs.c.job_id.desc()).limit(limit))
    return [_job(row) for row in rows]


def active(connection: Connection, model: str, *, lock: bool = False) -> Job | None:
    """The model's one active job. With `lock`, its row stays locked until the transaction ends."""
    query = select(jobs).where(jobs.c.model == model, jobs.c.state.in_([str(state) for state in ACTIVE]))
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _job(row)


def by_id(connection: Connection, model: str, job_id: int, *, lock: bool = False) -> Job | None:
    """One of the model's jobs. With `lock`, its row stays locked until the transaction ends."""
    query = select(jobs).where(jobs.c.model == model, jobs.c.job_id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _job(row)


def newest_result(connection: Connection, model: str) -> Job | None:
    """The newest job that came to something, good or bad: neither under way nor cancelled."""
    others = [str(state) for state in (JobState.QUEUED, JobState.RUNNING, JobState.CANCELLED)]
    query = select(jobs).where(jobs.c.model == model, jobs.c.state.not_in(others))
    row = connection.execute(query.order_by(jobs.c.job_id.desc()).limit(1)).first()
    return None if row is None else _job(row)


def keep_result(connection: Connection, job: Job, result: Mapping[str, Any]) -> None:
    """Keep what was added to a job's result, in the state that it is in."""
    connection.execute(update(jobs).where(jobs.c.job_id == job.job_id).values(result=dict(result)))


def newest_judged(connection: Connection, model: str, job_id: int | None = None) -> Job | None:
    """The model's newest job that the gate judged, or this one of its jobs; None where there is none."""
    query = select(jobs).where(jobs.c.model == model, jobs.c.result["gate"]["conditions"].is_not(None))
    if job_id is not None:
        query = query.where(jobs.c.job_id == job_id)
    row = connection.execute(query.order_by(jobs.c.job_id.desc()).limit(1)).first()
    return None if row is None else _job(row)


def take_to_launch(connection: Connection, model: str, now: datetime, *, launched_before: datetime) -> Job | None:
    """The queued job that no trainer was sent for in this attempt, or none since then; from now on one is."""
    row = connection.execute(
        update(jobs)
        .where(
            jobs.c.model == model,
            jobs.c.state == str(JobState.QUEUED),
            jobs.c.launched_attempt.is_distinct_from(jobs.c.attempts + 1) | (jobs.c.launched_at < launched_before),
        )
        .values(launched_attempt=jobs.c.attempts + 1, launched_at=now)
        .returning(jobs)
    ).first()
    return None if row is None else _job(row)


def to_withdraw(connection: Connection, model: str, now: datetime) -> tuple[Job, int] | None:
    """A job that ended before its trainers did, and for which attempt one was sent last; None where none is left.

    What was sent ends with the job's deadline by itself: nothing is told after that.
    """
    row = connection.execute(
        select(jobs)
        .where(
            jobs.c.model == model,
            jobs.c.state.in_([str(JobState.CANCELLED), str(JobState.FAILED)]),
            jobs.c.launch.is_not(None),
            ~jobs.c.launch.has_key("withdrawn"),
            jobs.c.deadline > now,
        )
        .order_by(jobs.c.job_id)
        .limit(1)
    ).first()
    return None if row is None else (_job(row), row.launched_attempt or row.attempts)


def launched(connection: Connection, job: Job, told: Mapping[str, Any]) -> None:
    """Keep what was `started`, or why it `failed`: then a trainer is still wanted."""
    values: dict[str, Any] = {"launch": dict(told)}
    if "failed" in told:
        values["launched_attempt"] = None
    connection.execute(update(jobs).where(jobs.c.job_id == job.job_id).values(**values))


def queue(
    connection: Connection, model: str, spec: Mapping[str, Any], *, now: datetime, deadline: datetime
) -> int | None:
    """Queue a job and return its id; None where one is active already (the partial unique index decides)."""
    job_id: int | None = connection.scalar(
        upsert(jobs)
        .values(model=model, state=JobState.QUEUED, spec=dict(spec), deadline=deadline, created_at=now)
        .on_conflict_do_nothing()
        .returning(jobs.c.job_id)
    )
    return job_id


def move(connection: Connection, job: Job, state: JobState, **values: Any) -> bool:
    """Compare-and-set of a job's state; False where another process has moved it meanwhile.

    Raises ValueError on a transition that jobs do not make.
    """
    if not may_become(job.state, state):
        raise ValueError(f"a job that is {job.state} cannot become {state}")
    moved = connection.execute(
        update(jobs)
        .where(
            jobs.c.job_id == job.job_id,
            jobs.c.state == str(job.state),
            # A heartbeat between our look and now means that the trainer lives.
            jobs.c.lease_until.is_not_distinct_from(job.lease_until),
        )
        .values(state=str(state), **values)
    )
    return moved.rowcount == 1


def last_created_at(connection: Connection, model: str) -> datetime | None:
    """When the model's newest job was queued."""
    last: datetime | None = connection.scalar(select(func.max(jobs.c.created_at)).where(jobs.c.model == model))
    return last

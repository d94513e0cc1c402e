"""The trainer's end of the jobs table: claim a job, keep its lease, tell its progress, hand in its result.

A job belongs to the trainer named in `claimed_by` until `lease_until`; every write checks that it still does, so a
trainer that was suspended and comes back cannot overwrite what its successor did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update

from inference.errors import InferenceError
from migrations.schema.monitoring import jobs

LEASE = timedelta(seconds=60)
HEARTBEAT_SECONDS = 15.0


class LeaseLostError(InferenceError):
    """The job was cancelled, passed its deadline or went to another trainer: stop working on it."""

    code = "lease_lost"


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this trainer holds."""

    job_id: int
    model: str
    spec: Mapping[str, Any]
    attempt: int
    deadline: datetime


def claim(connection: Connection, model: str, trainer: str, now: datetime) -> ClaimedJob | None:
    """Take the model's oldest waiting job; None where there is none.

    Jobs whose lease lapsed are put back into the queue, or failed, by the monitor.
    """
    row = connection.execute(
        select(jobs)
        .where(jobs.c.model == model, jobs.c.state == "queued", jobs.c.deadline > now)
        .order_by(jobs.c.job_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if row is None:
        return None
    connection.execute(
        update(jobs)
        .where(jobs.c.job_id == row.job_id)
        .values(
            state="running",
            claimed_by=trainer,
            lease_until=now + LEASE,
            attempts=row.attempts + 1,
            started_at=row.started_at or now,
            error=None,
        )
    )
    return ClaimedJob(row.job_id, row.model, row.spec, row.attempts + 1, row.deadline)


def heartbeat(
    connection: Connection, job: ClaimedJob, trainer: str, now: datetime, progress: Mapping[str, Any]
) -> None:
    """Prolong the lease and store the progress. Raises LeaseLostError where the job is no longer this trainer's."""
    if now >= job.deadline:
        raise LeaseLostError(f"job {job.job_id} passed its deadline {job.deadline.isoformat()}")
    _write(connection, job, trainer, lease_until=now + LEASE, progress=dict(progress))


def hand_in(connection: Connection, job: ClaimedJob, trainer: str, result: Mapping[str, Any]) -> None:
    """The job is trained; the monitor judges the result. Raises LeaseLostError as `heartbeat` does."""
    _write(connection, job, trainer, state="trained", result=dict(result), lease_until=None)


def let_go(connection: Connection, job: ClaimedJob, trainer: str, error: str, now: datetime) -> None:
    """The attempt failed: end the lease and say why. The monitor queues the job again or fails it for good."""
    _write(connection, job, trainer, error=error, lease_until=now)


def _write(connection: Connection, job: ClaimedJob, trainer: str, **values: Any) -> None:
    written = connection.execute(
        update(jobs)
        .where(jobs.c.job_id == job.job_id, jobs.c.state == "running", jobs.c.claimed_by == trainer)
        .values(**values)
    )
    if written.rowcount != 1:
        raise LeaseLostError(f"job {job.job_id} is no longer this trainer's")

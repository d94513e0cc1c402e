"""The trainer's end of the jobs table: claim a job, keep its lease, tell its progress, hand in its result.

A job belongs to the trainer named in `claimed_by` until `lease_until`. Every write checks that it still does, by the
trainer's name and by the attempt's number, which is the fencing token: a trainer that was suspended and comes back
cannot overwrite what its successor did, not even where both go by the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, update

from inference.errors import InferenceError
from migrations.schema.monitoring import jobs

LEASE = timedelta(seconds=60)
HEARTBEAT_SECONDS = 15.0


class LeaseLostError(InferenceError):
    """The job was cancelled, passed its deadline or went to another trainer: stop working on it."""

    code = "lease_lost"


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that `trainer` holds with `processes` since `claimed_at`; earlier attempts computed for `spent` seconds."""

    job_id: int
    model: str
    spec: Mapping[str, Any]
    attempt: int
    deadline: datetime
    trainer: str
    claimed_at: datetime | None = None
    spent: float = 0.0
    processes: int = 1

    def computed(self, now: datetime) -> float:
        """Seconds of computing until now: what budgets count, whatever becomes of the attempt."""
        lasted = 0.0 if self.claimed_at is None else (now - self.claimed_at).total_seconds()
        return self.spent + max(0.0, lasted) * self.processes


def claim(
    connection: Connection, model: str, trainer: str, now: datetime, job_id: int | None = None, processes: int = 1
) -> ClaimedJob | None:
    """Take the model's oldest waiting job, or the one named; None where there is none that waits.

    Jobs whose lease lapsed are put back into the queue, or failed, by the monitor.
    """
    waiting = select(jobs).where(jobs.c.model == model, jobs.c.state == "queued", jobs.c.deadline > now)
    if job_id is not None:
        waiting = waiting.where(jobs.c.job_id == job_id)
    row = connection.execute(waiting.order_by(jobs.c.job_id).limit(1).with_for_update(skip_locked=True)).first()
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
    return ClaimedJob(
        row.job_id,
        row.model,
        row.spec,
        row.attempts + 1,
        row.deadline,
        trainer,
        claimed_at=now,
        spent=row.compute_seconds,
        processes=processes,
    )


def heartbeat(connection: Connection, job: ClaimedJob, now: datetime, progress: Mapping[str, Any]) -> None:
    """Prolong the lease, store the progress, count the time. Raises LeaseLostError where it is another's job."""
    if now >= job.deadline:
        raise LeaseLostError(f"job {job.job_id} passed its deadline {job.deadline.isoformat()}")
    _write(connection, job, lease_until=now + LEASE, progress=dict(progress), compute_seconds=job.computed(now))


def hold(connection: Connection, job: ClaimedJob) -> None:
    """Keep the job this trainer's until the transaction ends, for what else is written in it. Raises LeaseLostError."""
    if connection.execute(select(jobs.c.job_id).where(*_held(job)).with_for_update()).first() is None:
        raise _lost(job)


def hand_in(connection: Connection, job: ClaimedJob, result: Mapping[str, Any]) -> None:
    """The job is trained; the monitor judges the result. Raises LeaseLostError as `heartbeat` does."""
    _write(connection, job, state="trained", result=dict(result), lease_until=None)


def let_go(connection: Connection, job: ClaimedJob, error: str, now: datetime) -> None:
    """The attempt failed: end the lease and say why. The monitor queues the job again or fails it for good."""
    _write(connection, job, error=error, lease_until=now, compute_seconds=job.computed(now))


def _held(job: ClaimedJob) -> tuple[ColumnElement[bool], ...]:
    return (
        jobs.c.job_id == job.job_id,
        jobs.c.state == "running",
        jobs.c.claimed_by == job.trainer,
        jobs.c.attempts == job.attempt,
    )


def _write(connection: Connection, job: ClaimedJob, **values: Any) -> None:
    if connection.execute(update(jobs).where(*_held(job)).values(**values)).rowcount != 1:
        raise _lost(job)


def _lost(job: ClaimedJob) -> LeaseLostError:
    return LeaseLostError(f"job {job.job_id} is no longer this trainer's")

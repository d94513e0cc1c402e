"""Retrain jobs in the queue: what a trainer left is recovered, what hangs is ended, what nobody wants is cancelled."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from monitor.domain.clock import Clock
from monitor.domain.job import JobState, may_become
from monitor.errors import JobStateError
from monitor.launchers.base import Launch, Launcher, LaunchError
from monitor.storage import jobs, models
from monitor.storage.jobs import Job
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)


class Jobs:
    """The task. Each look is one transaction; whoever moves a job first has moved it."""

    def __init__(
        self,
        engine: Engine,
        model: str,
        *,
        max_attempts: int,
        launcher: Launcher | None,
        patience: timedelta,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """`max_attempts` is how often trainers may start one job.

        A `launcher` sends a trainer for each attempt, and once more where nobody claimed the job within `patience`.
        """
        self._engine = engine
        self._model = model
        self._max_attempts = max_attempts
        self._launcher = launcher
        self._patience = patience
        self._metrics = metrics
        self._clock = clock

    def run(self) -> None:
        """Queue the job whose trainer was lost again; fail it where attempts or time are spent.

        A trainer is sent where one is wanted, and taken back from a job that ended without it.
        """
        with self._engine.begin() as connection:
            self._recover(connection, self._clock.now())
        if self._launcher is not None:
            self._launch(self._launcher, self._clock.now())
            self._withdraw(self._launcher, self._clock.now())

    def _launch(self, launcher: Launcher, now: datetime) -> None:
        # written down and committed first: a trainer that is quick must not find the row locked
        with self._engine.begin() as connection:
            job = jobs.take_to_launch(connection, self._model, now, launched_before=now - self._patience)
        if job is None:
            return
        try:
            told = {"started": launcher.launch(Launch(job.job_id, job.model, job.attempts + 1, job.deadline, now))}
        except LaunchError as error:
            told = {"failed": str(error)}
            _log.error("job %d: no trainer could be sent: %s", job.job_id, error)
        else:
            _log.info("job %d: sent %s", job.job_id, told["started"])
        with self._engine.begin() as connection:
            jobs.launched(connection, job, told)

    def _withdraw(self, launcher: Launcher, now: datetime) -> None:
        with self._engine.connect() as connection:
            found = jobs.to_withdraw(connection, self._model, now)
        if found is None:
            return
        job, newest = found
        try:
            for attempt in range(1, newest + 1):
                launcher.withdraw(Launch(job.job_id, job.model, attempt, job.deadline, now))
        except LaunchError as error:
            _log.warning("job %d: its trainers are not taken back, tried again: %s", job.job_id, error)
            return
        with self._engine.begin() as connection:
            jobs.launched(connection, job, {**(job.launch or {}), "withdrawn": now.isoformat()})

    def _recover(self, connection: Connection, now: datetime) -> None:
        job = jobs.active(connection, self._model, lock=True)
        if job is None or job.state is JobState.TRAINED:
            return
        if now >= job.deadline:
            why = "no trainer finished it" if job.state is JobState.RUNNING else "no trainer claimed it"
            fail(connection, job, f"deadline passed: {why}", now, self._metrics)
        elif job.state is JobState.RUNNING and job.lease_until is not None and job.lease_until < now:
            if job.attempts >= self._max_attempts:
                told = f"lease lost {job.attempts} times, by {job.claimed_by} last"
                fail(connection, job, told, now, self._metrics)
            elif jobs.move(connection, job, JobState.QUEUED, claimed_by=None, lease_until=None):
                _log.warning("job %d lost its trainer %s and is queued again", job.job_id, job.claimed_by)


def fail(connection: Connection, job: Job, error: str, now: datetime, metrics: Metrics) -> None:
    """End a job for good, its lease with it: whoever still works on it can write nothing more."""
    error = f"{error}; the trainer said: {job.error}" if job.error else error
    if jobs.move(connection, job, JobState.FAILED, error=error, finished_at=now, lease_until=None):
        _log.error("job %d failed: %s", job.job_id, error)
        metrics.retrain_jobs.labels("failed").inc()


class Cancelling:
    """What people do with a job that nobody wants any more."""

    def __init__(self, engine: Engine, model: str, clock: Clock) -> None:
        self._engine = engine
        self._model = model
        self._clock = clock

    def cancel(self, job_id: int, *, actor: str, reason: str) -> Job:
        """End a job; its trainer stops at its next heartbeat. Audited. Raises JobStateError where it is over."""
        now = self._clock.now()
        with self._engine.begin() as connection:
            job = jobs.by_id(connection, self._model, job_id, lock=True)
            if job is None:
                raise JobStateError(f"model {self._model!r} has no job {job_id}")
            if not may_become(job.state, JobState.CANCELLED):
                raise JobStateError(f"job {job_id} is {job.state}: there is nothing left to cancel")
            jobs.move(connection, job, JobState.CANCELLED, finished_at=now, lease_until=None)
            details = {"reason": reason, "was": str(job.state), "claimed_by": job.claimed_by}
            models.audit(
                connection, actor=actor, action="job_cancelled", subject=f"job {job_id}", details=details, now=now
            )
        return job

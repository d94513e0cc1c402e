"""Retrain jobs from decision to promotion: recover what a trainer left, judge what it trained, decide on the next."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, Engine

from monitor.domain.clock import Clock
from monitor.domain.gate import GateLimits, ResultError, TrainingResult, judge, parse_result
from monitor.domain.job import Condition, Decision, JobLimits, JobState
from monitor.storage import jobs, models
from monitor.storage.jobs import Job
from monitor.tasks.policy import Policy
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

ACTOR = "monitor"


class Retrain:
    """The task. Each step is one transaction; the jobs table's constraints make every effect happen once."""

    def __init__(
        self,
        engine: Engine,
        model: str,
        policy: Policy,
        gate: GateLimits,
        limits: JobLimits,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._model = model
        self._policy = policy
        self._gate_limits = gate
        self._limits = limits
        self._metrics = metrics
        self._clock = clock

    def run(self) -> None:
        """Recover, judge, decide."""
        for one in (self._recover, self._gate):
            with self._engine.begin() as connection:
                one(connection, self._clock.now())
        self._policy.run()

    def request(self, reason: str, actor: str) -> int:
        """Queue a job because a person asks for it; raises as `Policy.request` does."""
        return self._policy.request(reason, actor)

    def _recover(self, connection: Connection, now: datetime) -> None:
        job = jobs.active(connection, self._model, lock=True)
        if job is None or job.state is JobState.TRAINED:
            return
        if now >= job.deadline:
            why = "no trainer finished it" if job.state is JobState.RUNNING else "no trainer claimed it"
            self._fail(connection, job, f"deadline passed: {why}", now)
        elif job.state is JobState.RUNNING and job.lease_until is not None and job.lease_until < now:
            if job.attempts >= self._limits.max_attempts:
                self._fail(connection, job, f"lease lost {job.attempts} times, by {job.claimed_by} last", now)
            elif jobs.move(connection, job, JobState.QUEUED, claimed_by=None, lease_until=None):
                _log.warning("job %d lost its trainer %s and is queued again", job.job_id, job.claimed_by)

    def _fail(self, connection: Connection, job: Job, error: str, now: datetime) -> None:
        error = f"{error}; the trainer said: {job.error}" if job.error else error
        if jobs.move(connection, job, JobState.FAILED, error=error, finished_at=now, lease_until=None):
            _log.error("job %d failed: %s", job.job_id, error)
            self._metrics.retrain_jobs.labels("failed").inc()

    def _gate(self, connection: Connection, now: datetime) -> None:
        job = jobs.active(connection, self._model, lock=True)
        if job is None or job.state is not JobState.TRAINED:
            return
        try:
            result = parse_result(job.result)
        except ResultError as error:
            self._fail(connection, job, f"its result cannot be judged: {error}", now)
            return
        verdict = judge(result, self._gate_limits)
        if verdict.retrain:
            verdict = self._promote(connection, result, verdict, now)
        state = JobState.PROMOTED if verdict.retrain else JobState.REJECTED
        gate = {"passed": verdict.retrain, "conditions": [asdict(condition) for condition in verdict.conditions]}
        jobs.move(connection, job, state, finished_at=now, result={**(job.result or {}), "gate": gate})
        models.audit(
            connection,
            actor=ACTOR,
            action=str(state),
            subject=result.candidate.version,
            details={"job_id": job.job_id, "model": self._model, "from": result.champion.version, "gate": gate},
            now=now,
        )
        _log.info("job %d: %s %s", job.job_id, result.candidate.version, state)
        self._metrics.promotions.labels(str(state)).inc()

    def _promote(self, connection: Connection, result: TrainingResult, verdict: Decision, now: datetime) -> Decision:
        """Move the champion alias, or say why it could not be moved."""
        candidate, champion = result.candidate.version, result.champion.version
        if not models.has_baseline(connection, candidate):
            found = Condition("baseline", False, f"{candidate} is not registered with a baseline of its own")
        elif models.promote(connection, self._model, expected=champion, version=candidate, now=now):
            found = Condition("champion", True, f"{champion} was still champion")
        else:
            found = Condition("champion", False, f"the champion is no longer {champion}, which was measured")
        return Decision(found.met, (*verdict.conditions, found))

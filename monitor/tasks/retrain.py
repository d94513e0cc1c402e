"""Retrain jobs from decision to promotion: recover what a trainer left, judge what it trained, decide on the next."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from monitor.alerts.rules import QUALITY_ALERTS
from monitor.domain.clock import Clock
from monitor.domain.gate import GateLimits, ResultError, TrainingResult, judge, parse_result
from monitor.domain.job import Condition, Decision, JobState, PolicyLimits, Situation, decide
from monitor.errors import ActiveJobError, NoChampionError, ServedElsewhereError
from monitor.storage import alerts, jobs, labels, models
from monitor.storage.jobs import Job
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

ACTOR = "monitor"


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How long a job may take in all, how often a trainer may start it, and on how many labelled rows it trains."""

    deadline: timedelta
    max_attempts: int
    max_rows: int


class Retrain:
    """The task. Each step is one transaction; the jobs table's constraints make every effect happen once."""

    def __init__(
        self,
        engine: Engine,
        model: str,
        policy: PolicyLimits,
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
        """Recover, judge, decide. Does nothing while the model has no champion."""
        for one in (self._recover, self._gate, self._decide):
            with self._engine.begin() as connection:
                try:
                    one(connection, self._clock.now())
                except NoChampionError as error:
                    _log.info("%s", error)
                    return

    def request(self, reason: str, actor: str) -> int:
        """Queue a job because a person asks for it. Raises ActiveJobError, NoChampionError, ServedElsewhereError."""
        now = self._clock.now()
        with self._engine.begin() as connection:
            if not models.champion(connection, self._model).trained_here:
                raise ServedElsewhereError(f"model {self._model!r} is served elsewhere, and trained there")
            decision = Decision(True, (Condition("manual", True, f"{actor} asked for it: {reason}"),))
            job_id = self._queue(connection, decision, now)
            if job_id is None:
                raise ActiveJobError(f"model {self._model!r} has an active job already")
            models.audit(
                connection,
                actor=actor,
                action="retrain_requested",
                subject=f"job {job_id}",
                details={"reason": reason},
                now=now,
            )
        return job_id

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

    def _decide(self, connection: Connection, now: datetime) -> None:
        decision = decide(self._situation(connection, now), self._policy)
        if decision.retrain:
            self._queue(connection, decision, now)
        else:
            jobs.record_decision(connection, self._model, decision, job_id=None, now=now)

    def _situation(self, connection: Connection, now: datetime) -> Situation:
        champion = models.champion(connection, self._model)
        last = jobs.last_created_at(connection, self._model)
        active = jobs.active(connection, self._model)
        # An alert about a version that no longer answers is no reason to replace the one that does.
        firing = alerts.firing(connection, self._model, champion.version)
        quality = tuple(sorted(name for name in firing if name in QUALITY_ALERTS))
        since = last or champion.created_at
        return Situation(
            now=now,
            quality_alerts=quality,
            drift_alerts=tuple(sorted(firing - set(quality))),
            new_labels=labels.count_by_class(connection, champion.version, champion.class_names, since),
            last_job_at=last,
            active_job=None if active is None else active.job_id,
            trained_here=champion.trained_here,
        )

    def _queue(self, connection: Connection, decision: Decision, now: datetime) -> int | None:
        job_id = jobs.queue(
            connection,
            self._model,
            self._spec(connection, decision, now),
            now=now,
            deadline=now + self._limits.deadline,
        )
        if job_id is not None:
            jobs.record_decision(connection, self._model, decision, job_id=job_id, now=now)
            self._metrics.retrain_jobs.labels("queued").inc()
            _log.info("job %d is queued", job_id)
        return job_id

    def _spec(self, connection: Connection, decision: Decision, now: datetime) -> Mapping[str, Any]:
        return {
            "base_version": models.champion(connection, self._model).version,
            "labels_until": now.isoformat(),
            "max_rows": self._limits.max_rows,
            "reasons": [condition.text for condition in decision.conditions],
        }

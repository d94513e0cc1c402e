"""Retrain jobs at their two ends: decide on the next one, judge what was trained. `monitor.tasks.jobs` has the rest."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, Engine

from monitor.domain.clock import Clock
from monitor.domain.gate import GateLimits, ResultError, TrainingResult, judge, parse_result
from monitor.domain.job import Condition, Decision, JobState
from monitor.storage import jobs, models
from monitor.tasks.jobs import fail
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
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._model = model
        self._policy = policy
        self._gate_limits = gate
        self._metrics = metrics
        self._clock = clock

    def run(self) -> None:
        """Judge, decide."""
        with self._engine.begin() as connection:
            self._gate(connection, self._clock.now())
        self._policy.run()

    def request(self, reason: str, actor: str) -> int:
        """Queue a job because a person asks for it; raises as `Policy.request` does."""
        return self._policy.request(reason, actor)

    def _gate(self, connection: Connection, now: datetime) -> None:
        job = jobs.active(connection, self._model, lock=True)
        if job is None or job.state is not JobState.TRAINED:
            return
        try:
            result = parse_result(job.result)
        except ResultError as error:
            fail(connection, job, f"its result cannot be judged: {error}", now, self._metrics)
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

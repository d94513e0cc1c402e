"""What a trainer made, on its way to the champion: judged by the gate, then promoted, each step in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine

from monitor.domain.clock import Clock
from monitor.domain.gate import Check, GateLimits, Outcome, Verdict, judge
from monitor.domain.gate_result import ResultError, TrainingResult, parse_result
from monitor.domain.job import JobState
from monitor.domain.rollout import Place
from monitor.storage import jobs, models, rollouts
from monitor.storage.jobs import Job
from monitor.tasks.jobs import fail
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

ACTOR = "monitor"


class Candidates:
    """The task. The job's row is locked while it is judged, so several monitors judge it once."""

    def __init__(
        self, engine: Engine, model: str, gate: GateLimits, first: Place | None, metrics: Metrics, clock: Clock
    ) -> None:
        """`first` is where what passed the gate goes on; None promotes it at once."""
        self._engine = engine
        self._model = model
        self._gate_limits = gate
        self._first = first
        self._metrics = metrics
        self._clock = clock

    def run(self) -> None:
        """Judge what was trained."""
        with self._engine.begin() as connection:
            self._gate(connection, self._clock.now())

    def _gate(self, connection: Connection, now: datetime) -> None:
        job = jobs.active(connection, self._model, lock=True)
        if job is None or job.state is not JobState.TRAINED or "gate" in (job.result or {}):
            return  # what has its verdict and is still here is in a rollout
        try:
            result = parse_result(job.result)
        except ResultError as error:
            fail(connection, job, f"its result cannot be judged: {error}", now, self._metrics)
            return
        verdict = judge(result, self._gate_limits)
        if not models.has_baseline(connection, result.candidate):
            found = Check(
                "baseline", Outcome.FAILED, f"{result.candidate} is not registered with a baseline of its own"
            )
            verdict = Verdict((*verdict.checks, found), verdict.table)
        if self._first is None or verdict.outcome is not Outcome.PASSED:
            self._end(connection, job, result, verdict, now)
        else:
            self._send_on(connection, job, result, verdict, self._first, now)

    def _send_on(
        self,
        connection: Connection,
        job: Job,
        result: TrainingResult,
        verdict: Verdict,
        first: Place,
        now: datetime,
    ) -> None:
        """Begin the rollout of what passed, or leave it for when the open one is over."""
        rollout_id = rollouts.start(
            connection,
            self._model,
            version=result.candidate,
            champion=result.champion,
            job_id=job.job_id,
            place=first,
            now=now,
        )
        if rollout_id is None:
            return
        gate = as_json(verdict)
        jobs.keep_result(connection, job, {**(job.result or {}), "gate": gate})
        told = {"job_id": job.job_id, "rollout_id": rollout_id, "model": self._model, "champion": result.champion}
        models.audit(
            connection,
            actor=ACTOR,
            action="rollout_started",
            subject=result.candidate,
            details={**told, "gate": gate},
            now=now,
        )
        _log.info("job %d: %s goes on to %s at %d%%", job.job_id, result.candidate, first.stage, first.percent)

    def _end(self, connection: Connection, job: Job, result: TrainingResult, verdict: Verdict, now: datetime) -> None:
        """Promote what passed, and end the job either way."""
        details = {"job_id": job.job_id, "gate": as_json(verdict)}
        if verdict.outcome is Outcome.PASSED:
            verdict = self._promote(connection, result, verdict, details, now)
        promoted = verdict.outcome is Outcome.PASSED
        state = JobState.PROMOTED if promoted else JobState.REJECTED
        gate = as_json(verdict)
        jobs.move(connection, job, state, finished_at=now, result={**(job.result or {}), "gate": gate})
        if not promoted:
            told = {**details, "gate": gate, "model": self._model, "from": result.champion}
            models.audit(connection, actor=ACTOR, action=str(state), subject=result.candidate, details=told, now=now)
        _log.info("job %d: %s %s", job.job_id, result.candidate, state)
        self._metrics.promotions.labels(str(state)).inc()

    def _promote(
        self,
        connection: Connection,
        result: TrainingResult,
        verdict: Verdict,
        details: Mapping[str, Any],
        now: datetime,
    ) -> Verdict:
        """Move the champion alias, or say why it could not be moved."""
        candidate, champion = result.candidate, result.champion
        moved = models.promote(
            connection, self._model, expected=champion, version=candidate, actor=ACTOR, details=details, now=now
        )
        if moved:
            found = Check("champion", Outcome.PASSED, f"{champion} was still champion")
        else:
            found = Check("champion", Outcome.FAILED, f"the champion is no longer {champion}, which was measured")
        return Verdict((*verdict.checks, found), verdict.table)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as it is stored with its job and in the audit log."""
    return {
        "passed": verdict.outcome is Outcome.PASSED,
        "outcome": str(verdict.outcome),
        "conditions": [
            {
                "name": check.name,
                "met": check.outcome is Outcome.PASSED,
                "outcome": str(check.outcome),
                "text": check.text,
            }
            for check in verdict.checks
        ],
        "table": [asdict(row) for row in verdict.table],
    }

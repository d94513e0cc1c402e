"""Moves a challenger through shadow and canary: checks it, takes the next step, promotes it or takes it away."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from monitor.domain.clock import Clock
from monitor.domain.job import JobState
from monitor.domain.rollout import (
    PROMOTED,
    ROLLED_BACK,
    SHADOW,
    Limits,
    Outcome,
    Place,
    Plan,
    Reason,
    check_canary,
    check_shadow,
    overall,
)
from monitor.errors import PromotionError
from monitor.storage import jobs, models, rollouts
from monitor.storage.rollouts import Rollout
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

ACTOR = "monitor"
# A row's time is that of its transaction's start: what ends later is looked at next time.
SETTLE = timedelta(seconds=2)


class Rollouts:
    """The task. The rollout's row is locked while it is checked, so several monitors check it once."""

    def __init__(self, engine: Engine, model: str, plan: Plan, limits: Limits, metrics: Metrics, clock: Clock) -> None:
        self._engine = engine
        self._model = model
        self._plan = plan
        self._limits = limits
        self._metrics = metrics
        self._clock = clock

    def run(self) -> None:
        """Check the open rollout, if there is one, and do what follows."""
        with self._engine.begin() as connection:
            rollout = rollouts.open_one(connection, self._model)
            if rollout is not None:
                self._check(connection, rollout, self._clock.now())

    def start(self, version: str, *, actor: str, reason: str) -> int:
        """Send a registered version through the stages at a person's wish. Raises PromotionError, NoChampionError."""
        place, now = self._plan.first(), self._clock.now()
        if place is None:
            raise PromotionError("there is no stage to go through: set FUSIONWATCH_ROLLOUT_STAGES")
        with self._engine.begin() as connection:
            champion = models.champion(connection, self._model).version
            if version not in models.versions(connection, self._model) or version == champion:
                raise PromotionError(f"{version!r} is no version of model {self._model!r} beside its champion")
            if not models.has_baseline(connection, version):
                raise PromotionError(f"{version} has no baseline of its own: its drift could not be told")
            rollout_id = rollouts.start(
                connection, self._model, version=version, champion=champion, job_id=None, place=place, now=now
            )
            if rollout_id is None:
                raise PromotionError(f"model {self._model!r} has an open rollout already")
            told = {"reason": reason, "model": self._model, "rollout_id": rollout_id, "champion": champion}
            models.audit(connection, actor=actor, action="rollout_started", subject=version, details=told, now=now)
        return rollout_id

    def stop(self, *, actor: str, reason: str) -> Rollout:
        """Take the challenger away at a person's wish. Raises PromotionError where there is none."""
        with self._engine.begin() as connection:
            rollout = rollouts.open_one(connection, self._model)
            if rollout is None:
                raise PromotionError(f"model {self._model!r} has no open rollout")
            self._end(connection, rollout, f"{actor} stopped it: {reason}", self._clock.now(), actor)
        return rollout

    def _check(self, connection: Connection, rollout: Rollout, now: datetime) -> None:
        if why := self._overtaken(connection, rollout):
            self._end(connection, rollout, why, now)
            return
        until = now - SETTLE
        reasons = self._reasons(connection, rollout, until)
        outcome = overall(reasons)
        rollouts.record_check(connection, rollout, outcome, reasons, now)
        following = self._plan.follow(rollout.place, outcome)
        failed = "; ".join(f"{each.name}: {each.text}" for each in reasons if each.outcome is Outcome.FAILED)
        if following == ROLLED_BACK:
            self._end(connection, rollout, failed, now)
        elif following == PROMOTED:
            self._promote(connection, rollout, now)
        elif not isinstance(following, str) and outcome is not Outcome.INCONCLUSIVE:
            rollouts.move(connection, rollout, following, until)
            told = (rollout.rollout_id, outcome, following.stage, following.percent, failed)
            _log.info("rollout %d: %s, now %s at %d%% %s", *told)
            self._tell_step(connection, rollout, following, now)

    def _tell_step(self, connection: Connection, rollout: Rollout, following: Place, now: datetime) -> None:
        """Keep in the audit log that a stage or a step of the canary is behind."""
        before = rollout.place
        if (before.stage, before.percent) == (following.stage, following.percent):
            return
        words = f"{before.stage} at {before.percent}% passed, now {following.stage} at {following.percent}%"
        details = {"job_id": rollout.job_id, "rollout_id": rollout.rollout_id, "model": self._model, "reason": words}
        action = f"{before.stage}_passed"
        models.audit(connection, actor=ACTOR, action=action, subject=rollout.version, details=details, now=now)

    def _overtaken(self, connection: Connection, rollout: Rollout) -> str | None:
        """Why the rollout is about nothing any more."""
        if models.champion(connection, self._model).version != rollout.champion:
            return f"the champion is no longer {rollout.champion}"
        if rollout.job_id is not None:
            job = jobs.by_id(connection, self._model, rollout.job_id, lock=True)
            if job is None or job.state is not JobState.TRAINED:
                return f"its job is {'gone' if job is None else job.state}"
        return None

    def _reasons(self, connection: Connection, rollout: Rollout, until: datetime) -> Sequence[Reason]:
        if rollout.place.stage == SHADOW:
            names = models.champion(connection, self._model).class_names
            seen = rollouts.shadowed(connection, rollout.rollout_id, names, self._limits.max_slowdown)
            return check_shadow(seen, self._limits)
        since, started = rollout.checked_until, rollout.started_at
        # At 100% the champion answers nothing more: it is judged by all that it answered since the start.
        champion = rollouts.answered(connection, rollout.champion, since=started, until=until, labelled_since=started)
        challenger = rollouts.answered(connection, rollout.version, since=since, until=until, labelled_since=started)
        complaints = rollouts.complaints(connection, rollout.rollout_id, since)
        return check_canary(champion, challenger, complaints, self._limits)

    def _promote(self, connection: Connection, rollout: Rollout, now: datetime) -> None:
        details = {
            "job_id": rollout.job_id,
            "rollout_id": rollout.rollout_id,
            "stages": list(self._plan.stages),
            "reason": f"{rollout.place.stage} at {rollout.place.percent}% passed",
        }
        moved = models.promote(
            connection,
            self._model,
            expected=rollout.champion,
            version=rollout.version,
            actor=ACTOR,
            details=details,
            now=now,
        )
        if not moved:  # between our look and now
            self._end(connection, rollout, f"the champion is no longer {rollout.champion}", now)
            return
        rollouts.end(connection, rollout, PROMOTED, "every check was passed", now)
        self._end_job(connection, rollout, JobState.PROMOTED, now)
        _log.info("rollout %d: %s is champion", rollout.rollout_id, rollout.version)
        self._metrics.promotions.labels("promoted").inc()

    def _end(self, connection: Connection, rollout: Rollout, reason: str, now: datetime, actor: str = ACTOR) -> None:
        """Take the challenger away; the champion answers everything again."""
        rollouts.end(connection, rollout, ROLLED_BACK, reason, now)
        self._end_job(connection, rollout, JobState.REJECTED, now)
        details = {
            "job_id": rollout.job_id,
            "rollout_id": rollout.rollout_id,
            "model": self._model,
            "from": rollout.champion,
            "at": asdict(rollout.place),
            "reason": reason,
        }
        models.audit(connection, actor=actor, action="rejected", subject=rollout.version, details=details, now=now)
        _log.warning("rollout %d: %s is taken away: %s", rollout.rollout_id, rollout.version, reason)
        self._metrics.promotions.labels("rejected").inc()

    def _end_job(self, connection: Connection, rollout: Rollout, state: JobState, now: datetime) -> None:
        if rollout.job_id is None:
            return
        job = jobs.by_id(connection, self._model, rollout.job_id, lock=True)
        if job is not None and job.state is JobState.TRAINED:
            jobs.move(connection, job, state, finished_at=now)

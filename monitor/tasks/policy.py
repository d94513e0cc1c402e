"""Decides on retraining: gathers what the policy looks at, keeps each decision, queues the job."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from monitor.alerts.names import BASELINE, QUALITY_ALERTS
from monitor.alerts.rules import RULES
from monitor.domain.clock import Clock
from monitor.domain.job import Decision, JobLimits
from monitor.domain.policy import (
    BUDGET_PERIOD,
    DRIFTS,
    ESTIMATE,
    Approval,
    PolicyLimits,
    Situation,
    asked_for,
    decide,
    labels_short,
    sustained,
)
from monitor.errors import ActiveJobError, NoChampionError, ServedElsewhereError
from monitor.storage import alerts, decisions, findings, jobs, labels, models
from monitor.storage.findings import Kept
from monitor.storage.models import ModelVersion
from monitor.tasks.labelling import Labelling, Shortage
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

_ABOUT_THE_MODEL = {rule.alertname for rule in RULES if rule.detector in (*DRIFTS, ESTIMATE)}


@dataclass(frozen=True, slots=True)
class _Seen:
    """The champion, what the policy looks at, and the ids of what that rests on."""

    champion: ModelVersion
    situation: Situation
    evidence: Mapping[str, Sequence[int]]


class Policy:
    """The policy of one model at work. Each step is one transaction."""

    def __init__(
        self,
        engine: Engine,
        model: str,
        *,
        limits: PolicyLimits,
        job: JobLimits,
        approval_lasts: timedelta,
        labelling: Labelling,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._model = model
        self._limits = limits
        self._job = job
        self._approval_lasts = approval_lasts
        self._labelling = labelling
        self._metrics = metrics
        self._clock = clock

    def run(self) -> None:
        """Decide, keep the decision, and ask for labels. Does nothing while the model has no champion."""
        with self._engine.begin() as connection:
            try:
                seen = self._look(connection, self._clock.now())
            except NoChampionError as error:
                _log.info("%s", error)
                return
            decision = decide(seen.situation, self._limits)
            if decision.retrain:
                self._queue(connection, seen, decision)
            else:
                self._keep(connection, seen, decision, None)
        with self._engine.begin() as connection:
            shortage = self._shortage(seen.situation, decision)
            self._labelling.run(connection, seen.champion.version, shortage, seen.situation.now)

    def request(self, reason: str, actor: str) -> int:
        """Queue a job because a person asks for it. Raises ActiveJobError, NoChampionError, ServedElsewhereError."""
        with self._engine.begin() as connection:
            seen = self._look(connection, self._clock.now())
            if not seen.champion.trained_here:
                raise ServedElsewhereError(f"model {self._model!r} is served elsewhere, and trained there")
            decision = asked_for(seen.situation, self._limits, actor, reason)
            job_id = self._queue(connection, seen, decision) if decision.retrain else None
            if job_id is None:
                raise ActiveJobError(f"model {self._model!r} has an active job already")
            models.audit(
                connection,
                actor=actor,
                action="retrain_requested",
                subject=f"job {job_id}",
                details={"reason": reason, "job_id": job_id, "model": self._model},
                now=seen.situation.now,
            )
        return job_id

    def approve(self, reason: str, actor: str) -> Approval:
        """Let a retrain go on that only lacks a shown drop. Raises NoChampionError, ServedElsewhereError."""
        now = self._clock.now()
        with self._engine.begin() as connection:
            champion = models.champion(connection, self._model)
            if not champion.trained_here:
                raise ServedElsewhereError(f"model {self._model!r} is served elsewhere, and trained there")
            approval = decisions.approve(
                connection,
                self._model,
                champion.version,
                actor=actor,
                reason=reason,
                now=now,
                expires_at=now + self._approval_lasts,
            )
            models.audit(
                connection,
                actor=actor,
                action="retrain_approved",
                subject=champion.version,
                details={"reason": reason, "expires_at": approval.expires_at.isoformat(), "model": self._model},
                now=now,
            )
        return approval

    def _look(self, connection: Connection, now: datetime) -> _Seen:
        champion = models.champion(connection, self._model)
        last = jobs.last_created_at(connection, self._model)
        active = jobs.active(connection, self._model)
        # An alert about a version that no longer answers is no reason to replace the one that does.
        firing = alerts.firing(connection, self._model, champion.version)
        needed = self._limits.drift_windows
        kept = findings.newest_windows(connection, self._model, champion.version, BASELINE, needed)
        situation = Situation(
            now=now,
            windows=tuple(tuple(one.finding for one in window) for window in kept),
            quality_alerts=tuple(sorted({name for name in firing.values() if name in QUALITY_ALERTS})),
            new_labels=labels.count_by_class(
                connection, champion.version, champion.class_names, last or champion.created_at
            ),
            last_job_at=last,
            active_job=None if active is None else active.job_id,
            compute_used=decisions.compute_used(connection, self._model, now - BUDGET_PERIOD),
            approval=decisions.approval(connection, self._model, champion.version, now),
            trained_here=champion.trained_here,
        )
        about = [alert_id for alert_id, name in firing.items() if name in _ABOUT_THE_MODEL]
        evidence = {"findings": self._shown_by(kept, situation), "alerts": about}
        return _Seen(champion, situation, evidence)

    def _shown_by(self, kept: Sequence[Sequence[Kept]], situation: Situation) -> list[int]:
        """Of the newest window, the findings of each lasting drift and the estimate."""
        wanted = {*sustained(situation.windows, self._limits.drift_windows), (ESTIMATE, "fused")}
        newest = kept[-1] if kept else ()
        return [one.finding_id for one in newest if (one.finding.detector, one.finding.modality) in wanted]

    def _shortage(self, situation: Situation, decision: Decision) -> Shortage | None:
        """What labels are needed for; None where nothing drifts, enough came, or a job is under way."""
        lasting = set(sustained(situation.windows, self._limits.drift_windows))
        short = labels_short(situation, self._limits)
        if not lasting or not short or not situation.trained_here or situation.active_job is not None:
            return None
        drifting = [one for one in situation.windows[-1] if (one.detector, one.modality) in lasting]
        told = ("drift", "labels_total", "labels_per_class")
        return Shortage(short, drifting, [each for each in decision.conditions if each.name in told])

    def _queue(self, connection: Connection, seen: _Seen, decision: Decision) -> int | None:
        now = seen.situation.now
        job_id = jobs.queue(
            connection, self._model, self._spec(seen, decision), now=now, deadline=now + self._job.deadline
        )
        if job_id is not None:
            self._keep(connection, seen, decision, job_id)
            decisions.use_up(connection, self._model, seen.champion.version, job_id)
            self._metrics.retrain_jobs.labels("queued").inc()
            _log.info("job %d is queued", job_id)
        return job_id

    def _spec(self, seen: _Seen, decision: Decision) -> Mapping[str, Any]:
        return {
            "base_version": seen.champion.version,
            "labels_until": seen.situation.now.isoformat(),
            "max_rows": self._job.max_rows,
            "reasons": [condition.text for condition in decision.conditions],
        }

    def _keep(self, connection: Connection, seen: _Seen, decision: Decision, job_id: int | None) -> None:
        decisions.record(
            connection,
            self._model,
            decision,
            model_version=seen.champion.version,
            evidence=seen.evidence,
            job_id=job_id,
            now=seen.situation.now,
        )

"""The composition root of the closed loop: when to retrain, jobs, candidates, rollouts, champions."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine

from monitor import alert_wiring
from monitor.domain import rollout
from monitor.domain.clock import Clock, SystemClock
from monitor.domain.gate import GateLimits
from monitor.domain.job import JobLimits
from monitor.domain.policy import PolicyLimits
from monitor.launchers import base as launchers
from monitor.settings import MonitorSettings
from monitor.tasks.candidates import Candidates
from monitor.tasks.champions import Champions
from monitor.tasks.jobs import Cancelling, Jobs
from monitor.tasks.labelling import Labelling, QueueLimits
from monitor.tasks.policy import Policy
from monitor.tasks.retrain import Retrain
from monitor.tasks.rollouts import Rollouts
from monitor.telemetry import Metrics


def job_limits(settings: MonitorSettings) -> JobLimits:
    """What a job may take."""
    return JobLimits(
        deadline=timedelta(seconds=settings.retrain_deadline_seconds),
        max_attempts=settings.retrain_max_attempts,
        max_rows=settings.retrain_max_rows,
    )


def policy(settings: MonitorSettings, engine: Engine, metrics: Metrics, clock: Clock) -> Policy:
    """What decides on retraining."""
    return Policy(
        engine,
        settings.model,
        limits=PolicyLimits(
            min_labels=settings.retrain_min_labels,
            min_labels_per_class=settings.retrain_min_labels_per_class,
            cooldown=timedelta(seconds=settings.retrain_cooldown_seconds),
            drift_windows=settings.retrain_drift_windows,
            estimated_drop=settings.retrain_estimated_drop,
            budget=timedelta(minutes=settings.retrain_budget_minutes),
        ),
        job=job_limits(settings),
        approval_lasts=timedelta(seconds=settings.retrain_approval_seconds),
        labelling=Labelling(
            settings.model,
            QueueLimits(
                entries=settings.label_queue_entries,
                frame=timedelta(seconds=settings.label_window_seconds),
                lasts=timedelta(seconds=settings.label_queue_seconds),
            ),
            alert_wiring.alerting(settings),
            metrics,
        ),
        metrics=metrics,
        clock=clock,
    )


def retrain(settings: MonitorSettings, engine: Engine, metrics: Metrics, clock: Clock) -> Retrain:
    """The retrain task."""
    return Retrain(candidates(settings, engine, metrics, clock), policy(settings, engine, metrics, clock))


def jobs(settings: MonitorSettings, engine: Engine, metrics: Metrics, clock: Clock) -> Jobs:
    """The task that looks after the queue."""
    return Jobs(
        engine,
        settings.model,
        max_attempts=settings.retrain_max_attempts,
        launcher=None if settings.launcher is None else launchers.build(settings.launcher),
        patience=timedelta(seconds=settings.launch_patience_seconds),
        metrics=metrics,
        clock=clock,
    )


def cancelling(settings: MonitorSettings, engine: Engine, clock: Clock | None = None) -> Cancelling:
    """What people do with jobs."""
    return Cancelling(engine, settings.model, clock or SystemClock())


def candidates(settings: MonitorSettings, engine: Engine, metrics: Metrics, clock: Clock) -> Candidates:
    """The task that judges what was trained, and promotes it."""
    limits = GateLimits(
        min_rows=settings.gate_min_rows,
        alpha=settings.gate_alpha,
        max_drop=settings.gate_max_drop,
        max_ece=settings.gate_max_ece,
        max_slice_drop=settings.gate_max_slice_drop,
        min_slice_rows=settings.gate_min_slice_rows,
        max_slowdown=settings.gate_max_slowdown,
        min_reliance=settings.gate_min_reliance,
        required=settings.gate_sets,
    )
    return Candidates(engine, settings.model, limits, rollout_plan(settings).first(), metrics, clock)


def rollout_plan(settings: MonitorSettings) -> rollout.Plan:
    """The stages between gate and champion."""
    return rollout.Plan(
        stages=settings.rollout_stages,
        shadow_percent=settings.shadow_percent,
        steps=settings.canary_steps,
        passes=settings.canary_passes,
        failures=settings.canary_failures,
    )


def rollouts(settings: MonitorSettings, engine: Engine, metrics: Metrics, clock: Clock) -> Rollouts:
    """The task that moves a challenger through its stages."""
    limits = rollout.Limits(
        min_rows=settings.rollout_min_rows,
        min_labels=settings.rollout_min_labels,
        labels_needed=settings.shadow_labels_needed,
        alpha=settings.rollout_alpha,
        max_errors=settings.rollout_max_errors,
        max_slowdown=settings.rollout_max_slowdown,
        max_disagreement=settings.rollout_max_disagreement,
        max_drop=settings.rollout_max_drop,
    )
    return Rollouts(engine, settings.model, rollout_plan(settings), limits, metrics, clock)


def champions(settings: MonitorSettings, engine: Engine, clock: Clock | None = None) -> Champions:
    """What people do with the champion."""
    return Champions(engine, settings.model, clock or SystemClock())

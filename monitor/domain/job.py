"""A retrain job's states, and the policy that decides whether a retrain is worth starting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class JobState(StrEnum):
    """`queued` waits for a trainer; `trained` waits for the gate; the rest says how it ended."""

    QUEUED = "queued"
    RUNNING = "running"
    TRAINED = "trained"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.TRAINED})

_NEXT: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.TRAINED, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.TRAINED: frozenset({JobState.PROMOTED, JobState.REJECTED, JobState.FAILED, JobState.CANCELLED}),
}


def may_become(state: JobState, new: JobState) -> bool:
    """Whether a job may go from one state to another. A finished job stays as it ended."""
    return new in _NEXT.get(state, frozenset())


@dataclass(frozen=True, slots=True)
class PolicyLimits:
    """What a retrain takes. `cooldown` counts from the last job's start, whatever became of it."""

    min_labels: int
    min_labels_per_class: int
    cooldown: timedelta


@dataclass(frozen=True, slots=True)
class Situation:
    """What the policy looks at.

    `quality_alerts` are the firing alerts that show by labels that the champion got worse, `drift_alerts` the other
    firing ones of the model. `new_labels` counts labelled rows of the champion by class since its last job; every class
    of the model has an entry. A model that is served elsewhere is not `trained_here`.
    """

    now: datetime
    quality_alerts: tuple[str, ...]
    drift_alerts: tuple[str, ...]
    new_labels: Mapping[str, int]
    last_job_at: datetime | None
    active_job: int | None
    trained_here: bool = True


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a decision: its name, whether it is met, and why, in words."""

    name: str
    met: bool
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Retrain or not, with every condition. Only `required` ones decide; the rest is told along."""

    retrain: bool
    conditions: tuple[Condition, ...]


def decide(situation: Situation, limits: PolicyLimits) -> Decision:
    """Retrain when labels show a drop, enough of them are new, the cool-down is over and no job is active.

    Drift without a drop by labels is no reason: many shifts are harmless. A drop without drift is one: a concept that
    changed shows in labels only.
    """
    required = (
        *([] if situation.trained_here else [_SERVED_ELSEWHERE]),
        _quality_drop(situation),
        _labels_in_total(situation, limits),
        _labels_per_class(situation, limits),
        _cooldown(situation, limits),
        _no_active_job(situation),
    )
    drift = Condition(
        "drift",
        bool(situation.drift_alerts),
        f"drift is firing: {', '.join(situation.drift_alerts)}" if situation.drift_alerts else "no drift is firing",
    )
    return Decision(all(condition.met for condition in required), (*required, drift))


_SERVED_ELSEWHERE = Condition("trained_here", False, "no: this model is served elsewhere, and trained there")


def _quality_drop(situation: Situation) -> Condition:
    firing = situation.quality_alerts
    text = f"labels show a drop: {', '.join(firing)}" if firing else "no drop shown by labels is firing"
    return Condition("quality_drop", bool(firing), text)


def _labels_in_total(situation: Situation, limits: PolicyLimits) -> Condition:
    total = sum(situation.new_labels.values())
    return Condition("labels_total", total >= limits.min_labels, f"{total} new labels, {limits.min_labels} needed")


def _labels_per_class(situation: Situation, limits: PolicyLimits) -> Condition:
    need = limits.min_labels_per_class
    short = {name: n for name, n in sorted(situation.new_labels.items()) if n < need}
    if short or not situation.new_labels:
        listed = ", ".join(f"{name}: {n}" for name, n in short.items()) or "no class has any"
        return Condition("labels_per_class", False, f"classes short of {need} new labels: {listed}")
    return Condition("labels_per_class", True, f"every class has {need} new labels or more")


def _cooldown(situation: Situation, limits: PolicyLimits) -> Condition:
    if situation.last_job_at is None:
        return Condition("cooldown", True, "no job before this one")
    over = situation.last_job_at + limits.cooldown
    met = situation.now >= over
    return Condition("cooldown", met, f"the cool-down {'was' if met else 'is not'} over at {over.isoformat()}")


def _no_active_job(situation: Situation) -> Condition:
    if situation.active_job is None:
        return Condition("no_active_job", True, "no job is active")
    return Condition("no_active_job", False, f"job {situation.active_job} is active")

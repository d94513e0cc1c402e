"""The policy: whether a retrain is worth starting, decided from findings, alerts, labels, jobs and what people say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.domain.attribution import harmless
from monitor.domain.finding import Finding, Verdict
from monitor.domain.job import Condition, Decision

# What a retrain may answer: inputs, answers or truth have changed. An outage, lost messages or late inputs come from
# the pipeline, and a model trained on them would learn the fault. A changed concept shows in labels alone, and so the
# detectors that judge by labels are among these.
DRIFTS = frozenset(
    {
        *("embedding_mmd", "quality", "quality_shape", "class_drift", "confidence_drift", "pairing", "agreement"),
        *("contribution", "label_prior", "accuracy", "calibration", "sequential"),
    }
)
ESTIMATE = "estimated_accuracy"
# A fall of the estimate counts where chance alone would show one so large in fewer than one of a hundred windows.
ESTIMATE_ALPHA = 0.01
BUDGET_PERIOD = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class PolicyLimits:
    """What a retrain takes.

    Drift in `drift_windows` judged windows in a row; `estimated_drop` in accuracy, for the label-free estimate;
    `cooldown` counts from the last job's start, whatever became of it; `budget` is computing time in seven days.
    """

    min_labels: int
    min_labels_per_class: int
    cooldown: timedelta
    drift_windows: int = 3
    estimated_drop: float = 0.05
    budget: timedelta = timedelta(hours=10)


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's word that the champion is to be retrained although no drop is shown, until it expires."""

    approval_id: int
    actor: str
    reason: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Situation:
    """What the policy looks at, all of it about the champion.

    `windows` are the findings of the newest judged windows by their end, the oldest first; `quality_alerts` the firing
    alerts by which labels show that it got worse; `new_labels` counts labelled rows by class since its last job, with
    an entry for every class; `compute_used` is the computing time of the last seven days' jobs. A model that is served
    elsewhere is not `trained_here`.
    """

    now: datetime
    windows: Sequence[Sequence[Finding]]
    quality_alerts: tuple[str, ...]
    new_labels: Mapping[str, int]
    last_job_at: datetime | None
    active_job: int | None
    compute_used: timedelta = timedelta()
    approval: Approval | None = None
    trained_here: bool = True


def decide(situation: Situation, limits: PolicyLimits) -> Decision:
    """Retrain when drift lasts, quality fell or a person approves, labels suffice, and nothing stands in the way."""
    conditions = (
        *_served_elsewhere(situation),
        _drift(situation, limits),
        _quality(situation, limits),
        *_labels(situation, limits),
        _cooldown(situation, limits),
        _no_active_job(situation),
        _budget(situation, limits),
    )
    return Decision(all(condition.met for condition in conditions), conditions)


def asked_for(situation: Situation, limits: PolicyLimits, actor: str, reason: str) -> Decision:
    """A person asks for a retrain: only what makes one impossible stands in the way; the rest is told along."""
    told = decide(situation, limits).conditions
    possible = all(condition.met for condition in told if condition.name in ("trained_here", "no_active_job"))
    return Decision(possible, (Condition("manual", True, f"{actor} asked for it: {reason}"), *told))


def sustained(windows: Sequence[Sequence[Finding]], needed: int) -> tuple[tuple[str, str], ...]:
    """Detector and modality of every drift that each of the last `needed` windows shows, sorted.

    What one window left out or could not tell breaks the run, and so does drift without consequences.
    """
    if len(windows) < needed:
        return ()
    drifting = [{(one.detector, one.modality) for one in window if _is_drift(one)} for window in windows[-needed:]]
    return tuple(sorted(set.intersection(*drifting)))


def labels_short(situation: Situation, limits: PolicyLimits) -> Mapping[str, int]:
    """How many labels each class lacks, and under "" how many are missing in all; empty where there are enough."""
    short = {name: limits.min_labels_per_class - n for name, n in situation.new_labels.items()}
    short = {name: n for name, n in sorted(short.items()) if n > 0}
    missing = max(limits.min_labels - sum(situation.new_labels.values()), sum(short.values()))
    return {"": missing, **short} if missing > 0 else {}


def _is_drift(one: Finding) -> bool:
    return one.detector in DRIFTS and one.verdict is Verdict.DRIFT and not harmless(one)


def _served_elsewhere(situation: Situation) -> list[Condition]:
    if situation.trained_here:
        return []
    return [Condition("trained_here", False, "no: this model is served elsewhere, and trained there")]


def _drift(situation: Situation, limits: PolicyLimits) -> Condition:
    needed = limits.drift_windows
    found = sustained(situation.windows, needed)
    if not found:
        return Condition("drift", False, f"nothing drifted in each of the last {needed} windows")
    names = ", ".join(f"{detector} of {modality}" for detector, modality in found)
    return Condition("drift", True, f"drift in each of the last {needed} windows: {names}")


def _quality(situation: Situation, limits: PolicyLimits) -> Condition:
    reasons = []
    if situation.quality_alerts:
        reasons.append(f"labels show a drop: {', '.join(situation.quality_alerts)}")
    if (drop := _estimated_drop(situation, limits)) is not None:
        reasons.append(f"accuracy is estimated {drop:.1%} below the baseline, without labels")
    approval = situation.approval
    if approval is not None:
        reasons.append(f"{approval.actor} approved it until {approval.expires_at.isoformat()}: {approval.reason}")
    text = "; ".join(reasons) or "no drop is shown by labels or estimated without them, and nobody approved it"
    return Condition("quality_drop", bool(reasons), text)


def _estimated_drop(situation: Situation, limits: PolicyLimits) -> float | None:
    """The smallest of the drops that each of the last windows estimates; None where one of them shows none."""
    drops = []
    for window in situation.windows[-limits.drift_windows :]:
        drops += [one.effect for one in window if one.effect is not None and _is_fall(one, limits.estimated_drop)]
    return min(drops) if len(drops) >= limits.drift_windows else None


def _is_fall(one: Finding, least: float) -> bool:
    if one.detector != ESTIMATE or one.effect is None or one.p_value is None:
        return False
    told = one.verdict in (Verdict.OK, Verdict.DRIFT)
    return told and one.effect >= least and one.p_value <= ESTIMATE_ALPHA


def _labels(situation: Situation, limits: PolicyLimits) -> tuple[Condition, Condition]:
    total, need = sum(situation.new_labels.values()), limits.min_labels_per_class
    in_all = Condition("labels_total", total >= limits.min_labels, f"{total} new labels, {limits.min_labels} needed")
    short = {name: n for name, n in sorted(situation.new_labels.items()) if n < need}
    if short or not situation.new_labels:
        listed = ", ".join(f"{name}: {n}" for name, n in short.items()) or "no class has any"
        return in_all, Condition("labels_per_class", False, f"classes short of {need} new labels: {listed}")
    return in_all, Condition("labels_per_class", True, f"every class has {need} new labels or more")


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


def _budget(situation: Situation, limits: PolicyLimits) -> Condition:
    used, allowed = situation.compute_used, limits.budget
    minutes = f"{used.total_seconds() / 60:.0f} of {allowed.total_seconds() / 60:.0f} minutes"
    return Condition("budget", used < allowed, f"{minutes} of computing used in seven days")

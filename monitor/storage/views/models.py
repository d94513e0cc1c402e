"""What people are shown, as frozen models: the API's wire format and the page's input. Shares are 0-1, times UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from monitor.domain.reliability import ReliabilityBin

Item = TypeVar("Item")
VerdictName = Literal["ok", "drift", "insufficient", "no_data", "no_baseline"]


class Read(BaseModel):
    """Base of what is shown: frozen, and free to name a model."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Page(Read, Generic[Item]):
    """Some items, newest first, and where to go on: pass `next_cursor` as `cursor`; null at the end."""

    items: list[Item]
    next_cursor: int | None = None


class Period(Read):
    """From `start` up to, not including, `end`."""

    start: datetime
    end: datetime


class Timing(Read):
    """How time is cut, in seconds: summaries by slot; a window ends every hop and is judged `grace_seconds` later."""

    slot_seconds: int
    hop_seconds: int
    window_seconds: int
    availability_window_seconds: int
    grace_seconds: float


class Champion(Read):
    """The model version that answers, since when, and what it is compared with."""

    version: str
    family: str
    since: datetime
    class_names: list[str]
    modalities: list[str]
    baseline_id: int | None = Field(description="null: nothing to compare with, every drift verdict is no_baseline")
    baseline_origin: str | None
    baseline_facts: dict[str, Any]
    baseline_number: int | None = Field(default=None, description="counts the version's baselines from 1")
    baseline_pinned: bool | None = None
    baseline_period: Period | None = Field(default=None, description="null where it was not made from traffic")
    baseline_hours: int = Field(
        default=0, description="hours of day that it knows by themselves; 0: the day as a whole"
    )
    baseline_thresholds_learnt: bool | None = Field(default=None, description="false: thresholds are the defaults")


class BaselineView(Read):
    """A baseline of one of the model's versions, without its bins."""

    baseline_id: int
    model_version: str
    number: int
    origin: Literal["checkpoint", "period", "file"]
    pinned: bool
    used: bool = Field(description="whether its version is compared with it: it is pinned, or else the first")
    period: Period | None
    accuracy: float | None
    thresholds_learnt: bool
    created_by: str
    created_at: datetime


class BaselineCheck(Read):
    """What one detector says of a baseline beside another."""

    detector: str
    modality: str
    verdict: VerdictName
    effect: float | None
    p_value: float | None
    explanation: str


class ModalityNow(Read):
    """One modality over the last window: how many requests had it, with Wilson's 95% interval."""

    modality: str
    rows: int
    counts: dict[str, int] = Field(description="rows by status: present, missing, corrupt, rejected, stale")
    share: float | None = Field(description="share present; null where rows is 0")
    low: float | None
    high: float | None
    last_seen: datetime | None = Field(description="end of the last slot that had it, within a day")
    verdict: VerdictName = Field(description="of the newest availability finding; no_data where there is none")


class Traffic(Read):
    """Answered requests over the last window."""

    requests: int
    per_second: float
    degraded: int = Field(description="answered without all modalities, by a fallback route")
    quarantined: int = Field(description="answered, but kept out of every statistic, e.g. for the producer's clock")
    routes: dict[str, int]


class Latency(Read):
    """Worker time per request in milliseconds, over the newest `sample` requests of the window."""

    sample: int
    p50_ms: float | None
    p95_ms: float | None


class FindingView(Read):
    """One detector's verdict on one window. `value` is in the detector's own unit."""

    finding_id: int
    model_version: str
    detector: str
    modality: str
    window_start: datetime
    window_end: datetime
    verdict: VerdictName
    value: float | None
    p_value: float | None
    effect: float | None
    interval_low: float | None
    interval_high: float | None
    threshold: float | None
    n_reference: int
    n_current: int
    baseline_id: int | None
    explanation: str


class FindingDetail(FindingView):
    """A finding with all that its detector kept."""

    revision: int
    details: dict[str, Any]


class WindowView(Read):
    """One window as it was judged last: how many checks said what, and those that say drift."""

    window_start: datetime
    window_end: datetime
    verdicts: dict[VerdictName, int]
    drifts: list[str] = Field(description="detector and modality of each check that says drift")


class Point(Read):
    """A series at one window's end."""

    at: datetime
    value: float | None
    threshold: float | None
    low: float | None
    high: float | None
    verdict: VerdictName
    finding_id: int


class Series(Read):
    """One detector on one modality over time, oldest first."""

    detector: str
    modality: str
    points: list[Point]


class TrafficPoint(Read):
    """Counts over one bucket of time: requests by route, and each modality's rows by status."""

    at: datetime
    routes: dict[str, int]
    modalities: dict[str, dict[str, int]]


class TrafficSeries(Read):
    """Requests over time in buckets of equal width, oldest first; buckets without requests are left out."""

    bucket_seconds: int
    points: list[TrafficPoint]


class Silenced(Read):
    """The silence that holds an alert back."""

    silence_id: int
    until: datetime
    by: str
    reason: str


class AlertView(Read):
    """An alert as it stands. `since` is when its condition was first seen."""

    alert_id: int
    alertname: str
    severity: Literal["page", "ticket"]
    modality: str
    state: Literal["pending", "firing", "resolved"]
    since: datetime
    firing_since: datetime | None
    resolved_at: datetime | None
    inhibited_by: str | None
    silenced: Silenced | None = None
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    detector: str | None
    finding_id: int | None
    labels: dict[str, Any]
    annotations: dict[str, Any]


class JobView(Read):
    """A retrain job: what it was asked, how far it is, what came of it."""

    job_id: int
    state: Literal["queued", "running", "trained", "promoted", "rejected", "failed", "cancelled"]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline: datetime
    attempts: int
    claimed_by: str | None
    lease_until: datetime | None
    spec: dict[str, Any]
    progress: dict[str, Any] = Field(description="of the last heartbeat: phase, step, steps, loss, eta, resumed_at")
    compute_seconds: float = Field(
        default=0.0, description="of all attempts, each times its processes, up to the last heartbeat"
    )
    lineage: dict[str, Any] | None = Field(description="base version, code, data by digest and counts, stores, fit")
    tracking: dict[str, Any] | None = Field(default=None, description="the run that MLflow keeps of it: where, and id")
    result: dict[str, Any] | None
    error: str | None


class EventView(Read):
    """One row of the audit log."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


class DeadLetterReason(Read):
    """Refused messages of one reason: how many, the last one, and what was said of it."""

    error_code: str
    count: int
    last_at: datetime
    last_detail: str


class DeadLetters(Read):
    """Refused messages of a period by reason, the most frequent first."""

    period: Period
    total: int
    reasons: list[DeadLetterReason]


class Refused(Read):
    """One refused message: where it stands in its topic, and why it was refused."""

    topic: str
    partition: int
    offset: int
    error_code: str
    error_detail: str
    recorded_at: datetime


class Calibration(Read):
    """Confidence against truth over the champion's newest labelled answers.

    `verdict` is insufficient under `minimum_labels`, no_data without any; else that of the newest calibration finding.
    """

    model_version: str | None
    period: Period
    labelled: int
    minimum_labels: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    mean_confidence: float | None
    ece: float | None = Field(description="debiased expected calibration error, equal-mass bins")
    ece_target: float
    verdict: VerdictName
    bins: list[ReliabilityBin]


class Promise(Read):
    """How often an alarm may be false, beside how many there were: alerts of one severity that fired in `days`."""

    severity: Literal["page", "ticket"]
    days: int
    allowed: float = Field(description="false alarms in so many days, on average, that gradual change may raise")
    fired: int = Field(description="alerts of this severity that fired within the days, for whatever reason")
    gradual: int = Field(description="those of them that gradual change raised, true and false")
    series: int = Field(description="metrics that are followed")
    calibrated: int = Field(description="metrics that are judged; the others learn what is usual")
    taken: int = Field(description="windows learnt from, of the metric that is furthest")
    needed: int = Field(description="windows that calibration takes; fixed thresholds serve meanwhile")
    evidence: float | None = Field(description="of a change now")
    threshold: float | None = Field(description="evidence that an alarm takes")
    judged_at: datetime
    text: str


class SloWindow(Read):
    """Events of the last so much time: `burn_rate` is how many times too fast they use the budget up."""

    window: str
    good: int
    valid: int
    burn_rate: float | None = Field(description="null without events")


class SloRule(Read):
    """Fires where both windows burn more than `factor` times too fast; the verdict is that of now."""

    factor: float
    long: str
    short: str
    severity: Literal["page", "ticket"]
    verdict: VerdictName


class Slo(Read):
    """An objective: good events out of valid ones against its target, when last judged."""

    slo: str
    of: str = Field(description="a modality, or the objective's own name: the `modality` of its alerts")
    subject: str
    target: float
    verdict: VerdictName
    firing: Literal["page", "ticket"] | None
    text: str
    share: float | None = Field(description="good share of the last hour; null without events")
    budget_left: float | None = Field(description="share of the 30-day budget, below 0 where it is overdrawn")
    windows: list[SloWindow]
    rules: list[SloRule]
    evaluated_at: datetime


class Trend(Read):
    """A figure that is held to a target by its detector's own windows: now, and a day before."""

    name: str
    value: float | None
    before: float | None = Field(description="the newest value that is at least a day old")
    target: float | None = Field(description="the most it may be; null where none is set: a trend alone")
    verdict: VerdictName
    at: datetime | None


class Slos(Read):
    """What the model is held to. Objectives have budgets; trends have targets."""

    objectives: list[Slo]
    trends: list[Trend]


class Facts(Read):
    """All that the page's first sentence is made from."""

    now: datetime
    model: str
    window: Period = Field(description="the availability window that traffic, latency and modalities are counted in")
    timing: Timing
    champion: Champion | None
    traffic: Traffic
    latency: Latency
    modalities: list[ModalityNow]
    checks: list[FindingView] = Field(description="the newest finding of each detector and modality")
    last_evaluated: datetime | None = Field(description="end of the newest window that the monitor judged")
    alerts: list[AlertView] = Field(description="pending and firing, pages first")
    active_job: JobView | None


class Sentence(Read):
    """How the model is, in words. `todo` says what to do, where there is something to do."""

    mood: Literal["well", "notice", "problem", "unknown"]
    text: str
    todo: str | None = None


class Overview(Facts):
    """The facts and the sentence made from them."""

    sentence: Sentence

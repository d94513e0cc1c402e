"""Objectives, figures with a target, and what is promised of alarms, as they are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from monitor.storage.views.models.base import Read, VerdictName


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

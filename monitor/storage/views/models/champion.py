"""The version that answers and baselines, as they are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from monitor.storage.views.models.base import Period, Read, VerdictName


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

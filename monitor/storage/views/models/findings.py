"""Findings, windows, series and calibration, as they are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from monitor.domain.reliability import ReliabilityBin
from monitor.storage.views.models.base import Period, Read, VerdictName


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

"""Verdicts and findings: what a detector says about one window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from monitor.domain.window import Window


class Verdict(StrEnum):
    """What can be said. "Not enough data to tell" is never `ok`."""

    OK = "ok"
    DRIFT = "drift"
    INSUFFICIENT = "insufficient"
    NO_DATA = "no_data"
    NO_BASELINE = "no_baseline"


@dataclass(frozen=True, slots=True)
class Finding:
    """One detector's verdict on one modality in one window.

    `value` is the detector's statistic in its own units and `threshold` what it, or the effect, is held against;
    `effect` is its size, `interval` a 95% one of `value`, `p_value` the evidence; each is None where it cannot be
    told. `explanation` is one sentence in plain words; `details` can be written as JSON.
    """

    detector: str
    modality: str
    window: Window
    verdict: Verdict
    value: float | None
    p_value: float | None
    effect: float | None
    interval: tuple[float, float] | None
    threshold: float | None
    n_reference: int
    n_current: int
    baseline_id: int | None
    model_version: str
    explanation: str
    details: Mapping[str, Any] = field(default_factory=dict)

"""Settings of what closes the loop: when to retrain, who starts a job, what its model must pass, how that rolls out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from migrations.settings import DatabaseSettings
from monitor.domain.label_queue import FEWEST_ENTRIES
from monitor.launchers import base as launchers

Seconds = int


class LoopSettings(DatabaseSettings):
    """From a finding to another champion."""

    retrain_drift_windows: int = Field(
        default=3, ge=1, le=100, description="windows in a row that must drift before a retrain"
    )
    retrain_estimated_drop: float = Field(
        default=0.05, gt=0, lt=1, description="drop of the accuracy estimated without labels that stands for a drop"
    )
    retrain_approval_seconds: Seconds = Field(
        default=7 * 86400, ge=60, le=90 * 86400, description="how long a person's approval holds"
    )
    retrain_budget_minutes: float = Field(
        default=600, gt=0, description="computing time of jobs in seven days, from which on none is started"
    )
    label_queue_entries: int = Field(
        default=500, ge=0, le=20_000, description="answers that people are asked to label at a time; 0 asks for none"
    )
    label_queue_seconds: Seconds = Field(
        default=7 * 86400, ge=60, le=90 * 86400, description="how long they are asked for"
    )
    retrain_min_labels: int = Field(default=500, ge=1, description="new labels that a retrain takes")
    retrain_min_labels_per_class: int = Field(default=50, ge=1, description="of each class")
    retrain_cooldown_seconds: Seconds = Field(default=86400, ge=0, description="from one job's start to the next's")
    retrain_deadline_seconds: Seconds = Field(default=6 * 3600, ge=1, description="a job fails after that")
    retrain_max_attempts: int = Field(default=3, ge=1, le=100, description="trainers that may start one job")
    launcher: dict[str, Any] | None = Field(
        default=None,
        description='sends a trainer for each queued job, e.g. {"kind": "process"}; kinds: process, torchrun, '
        "kubernetes, webhook; none: a trainer that waits for jobs takes it",
    )
    launch_patience_seconds: Seconds = Field(
        default=600, ge=10, description="a job that nobody claimed so long after its launch is launched again"
    )
    retrain_max_rows: int = Field(default=20_000, ge=1, description="labelled rows a job trains on, the newest")
    gate_min_rows: int = Field(default=100, ge=1, description="held-out rows that the gate needs")
    gate_alpha: float = Field(default=0.05, gt=0, lt=1, description="level of the paired test")
    gate_max_drop: float = Field(default=0.03, ge=0, le=1, description="accuracy lost that must be ruled out")
    gate_max_ece: float = Field(
        default=0.05, ge=0, le=1, description="a candidate's ECE, unless the champion's is worse"
    )
    gate_max_slice_drop: float = Field(
        default=0.1, ge=0, le=1, description="accuracy lost in one class or presence pattern, beyond chance"
    )
    gate_min_slice_rows: int = Field(default=30, ge=1, description="held-out rows that each class needs")
    gate_max_slowdown: float = Field(default=1.5, ge=1, le=100, description="a pass beside the champion's")
    gate_min_reliance: float = Field(
        default=0.02, ge=0, le=1, description="confidence that a modality is worth, unless less to the champion"
    )
    gate_sets: tuple[Literal["recent", "test"], ...] = Field(
        default=("recent",), description="sets that must be measured; a test set is judged wherever it was"
    )

    rollout_stages: tuple[Literal["shadow", "canary"], ...] = Field(
        default=(), description="stages between gate and champion; none: what passes the gate is promoted"
    )
    rollout_check_seconds: float = Field(default=60, gt=0, le=86400, description="how often a rollout is checked")
    shadow_percent: int = Field(default=10, ge=1, le=100, description="batches that a challenger in shadow runs too")
    shadow_labels_needed: bool = Field(default=False, description="shadow waits until labels show the accuracy")
    canary_steps: tuple[int, ...] = Field(default=(10, 50, 100), description="percent of requests, growing")
    canary_passes: int = Field(default=3, ge=1, le=1000, description="passed checks that a step takes")
    canary_failures: int = Field(default=5, ge=1, le=1000, description="failed checks in a row that end it")
    rollout_min_rows: int = Field(default=200, ge=1, description="answers of each version that a check needs")
    rollout_min_labels: int = Field(default=50, ge=1, description="labels from which accuracy is looked at")
    rollout_alpha: float = Field(default=0.05, gt=0, lt=1, description="chance that shadow stops one as good")
    rollout_max_errors: float = Field(default=0.02, gt=0, lt=1, description="share of errors beside the champion's")
    rollout_max_disagreement: float = Field(default=0.3, gt=0, lt=1, description="share of answers that may differ")
    rollout_max_drop: float = Field(default=0.03, gt=0, lt=1, description="accuracy that may be lost")
    rollout_max_slowdown: float = Field(default=1.5, ge=1, le=100, description="a pass beside the champion's")

    @field_validator("canary_steps")
    @classmethod
    def _steps_grow(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if not steps or list(steps) != sorted(set(steps)) or not 1 <= steps[0] <= steps[-1] <= 100:
            raise ValueError(f"steps must grow within 1 to 100, as [10, 50, 100], not {list(steps)}")
        return steps

    @field_validator("launcher")
    @classmethod
    def _known_launcher(cls, options: dict[str, Any] | None) -> dict[str, Any] | None:
        if options is not None:
            launchers.build(options)
        return options

    @field_validator("label_queue_entries")
    @classmethod
    def _worth_a_round(cls, entries: int) -> int:
        if 0 < entries < FEWEST_ENTRIES:
            raise ValueError(f"a round has {FEWEST_ENTRIES} entries or more, not {entries}; 0 asks for none")
        return entries

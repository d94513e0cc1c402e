"""All that reports of a period are made from, as frozen models: it crosses to another process as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from monitor.storage.views.models.base import Period, Read
from monitor.storage.views.models.findings import Calibration
from monitor.storage.views.models.traffic import DeadLetters, ModalityNow, Traffic
from monitor.storage.views.models.work import AlertView, EventView, JobView
from monitor.storage.views.period import CheckOver, ObjectiveOver
from monitor.storage.views.reports import CadenceName


class Column(Read):
    """One figure of requests, in the baseline and in the period: points spread as the figure is, all as many.

    `rows` are the requests behind the points.
    """

    name: str
    kind: Literal["category", "number"]
    reference: list[str | float]
    current: list[str | float]
    reference_rows: int
    current_rows: int


class Compared(Read):
    """The columns that baseline and period share; `left_out` says in words which are missing, and why."""

    columns: list[Column] = Field(default_factory=list)
    left_out: list[str] = Field(default_factory=list)
    slots: int = 0
    latency_ms: dict[str, float] = Field(default_factory=dict, description="p50, p95 and p99 of the slots read")


class Document(Read):
    """What became of one kind of report: its files, or why there are none."""

    name: str
    files: list[str] = Field(default_factory=list)
    error: str | None = None


class Material(Read):
    """What is known of a period of one model."""

    model: str
    cadence: CadenceName
    period: Period
    made_at: datetime
    versions: dict[str, int] = Field(description="versions that answered, with the slots of each, the most first")
    baseline: str | None = Field(description="what is compared with, in words")
    traffic: Traffic
    modalities: list[ModalityNow]
    refused: DeadLetters
    checks: list[CheckOver]
    incidents: list[AlertView]
    objectives: list[ObjectiveOver]
    jobs: list[JobView]
    champions: list[EventView]
    calibration: Calibration
    compared: Compared
    status_page: str
    documents: list[Document] = Field(default_factory=list)

    @property
    def version(self) -> str | None:
        """The version that answered in most slots."""
        return next(iter(self.versions), None)

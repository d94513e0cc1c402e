"""Alerts, jobs and the audit log, as they are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from monitor.storage.views.models.base import Read


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

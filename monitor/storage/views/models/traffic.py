"""Requests, their latency, modalities and refusals, as they are shown."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from monitor.storage.views.models.base import Period, Read, VerdictName


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


class TrafficPoint(Read):
    """Counts over one bucket of time: requests by route, and each modality's rows by status."""

    at: datetime
    routes: dict[str, int]
    modalities: dict[str, dict[str, int]]


class TrafficSeries(Read):
    """Requests over time in buckets of equal width, oldest first; buckets without requests are left out."""

    bucket_seconds: int
    points: list[TrafficPoint]


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

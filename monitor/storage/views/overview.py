"""The facts of this moment, read in one snapshot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from monitor.storage.views.findings import last_evaluated, newest_checks
from monitor.storage.views.models.base import Period, Timing
from monitor.storage.views.models.overview import Facts
from monitor.storage.views.traffic import counts_by_modality, last_seen, latency_now, modalities_now, traffic_now
from monitor.storage.views.work import active_job, champion, open_alerts

AVAILABILITY = "availability"
# A check that has not been repeated for so many windows is no longer one of now.
CHECK_WINDOWS = 20
# Workers write their summaries every second or faster.
WRITE_SECONDS = 2


def newest_window(now: datetime, timing: Timing) -> Period:
    """The availability window that ends with the newest whole slot that workers have had time to write."""
    seconds = int(now.timestamp() - WRITE_SECONDS) // timing.slot_seconds * timing.slot_seconds
    end = datetime.fromtimestamp(seconds, UTC)
    return Period(start=end - timedelta(seconds=timing.availability_window_seconds), end=end)


def facts(connection: Connection, model: str, now: datetime, timing: Timing) -> Facts:
    """Everything about now: champion, traffic, modalities, newest checks, open alerts and the job under way."""
    window = newest_window(now, timing)
    version = champion(connection, model)
    counts = counts_by_modality(connection, model, window)
    checks = newest_checks(connection, model, now, timedelta(seconds=timing.window_seconds * CHECK_WINDOWS))
    return Facts(
        now=now,
        model=model,
        window=window,
        timing=timing,
        champion=version,
        traffic=traffic_now(counts, window),
        latency=latency_now(connection, model, window),
        modalities=modalities_now(
            version.modalities if version else [],
            counts,
            last_seen(connection, model, now),
            {check.modality: check.verdict for check in checks if check.detector == AVAILABILITY},
        ),
        checks=checks,
        last_evaluated=last_evaluated(connection, model),
        alerts=open_alerts(connection, model),
        active_job=active_job(connection, model),
    )

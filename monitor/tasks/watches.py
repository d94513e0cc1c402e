"""What is watched by wall clock and not by windows, since a page must not wait for a window's end.

Each watch turns what the database says now into a finding about the stream as a whole, or into none where nothing
changed since `last`, the end and the verdict of its newest finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from monitor.alerts.names import ALL, LOST, PARTITIONS, RESET, RETRAIN_JOB, ROLLOUT, SILENCE
from monitor.domain.finding import Finding, Verdict
from monitor.domain.gap import OffsetGap, losses, resets
from monitor.domain.job import JobState
from monitor.domain.window import Window
from monitor.storage.jobs import Job
from monitor.storage.rollouts import Rollout

Last = tuple[datetime, Verdict] | None
# The watch of each kind of gap.
GAPS: Mapping[str, str] = {"expired": LOST, "reset": RESET}
DETAILED = 100  # gaps that a finding keeps one by one
LEAST_DAYS = 2  # of partitions ahead: what is left to people once those of a week have run down


def plain(
    detector: str,
    window: Window,
    verdict: Verdict,
    model_version: str,
    explanation: str,
    *,
    value: float | None = None,
    threshold: float | None = None,
    n_current: int = 0,
    baseline_id: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> Finding:
    """A finding about the stream or the model as a whole, that no statistic stands behind."""
    return Finding(
        detector=detector,
        modality=ALL,
        window=window,
        verdict=verdict,
        value=value,
        p_value=None,
        effect=None,
        interval=None,
        threshold=threshold,
        n_reference=0,
        n_current=n_current,
        baseline_id=baseline_id,
        model_version=model_version,
        explanation=explanation,
        details=details or {},
    )


def silence(written: datetime, last: Last, now: datetime, limit: timedelta, model_version: str) -> Finding | None:
    """Whether rows still come; `written` is when the last one did."""
    age = now - written
    verdict = Verdict.DRIFT if age > limit else Verdict.OK
    if verdict is (Verdict.OK if last is None else last[1]) or set_back(last, now):
        return None
    return plain(
        SILENCE,
        Window(now - limit, now),
        verdict,
        model_version,
        f"The last row came at {written.isoformat(timespec='seconds')}, {age.total_seconds():.0f} s ago.",
        value=age.total_seconds(),
        threshold=limit.total_seconds(),
    )


def offset_gaps(
    watch: str, gaps: Sequence[OffsetGap], last: Last, window: Window, model_version: str
) -> Finding | None:
    """A breach about `gaps`; without any, all clear once the last breach was a window ago."""
    if gaps:
        lost = watch == LOST
        return plain(
            watch,
            window,
            Verdict.DRIFT,
            model_version,
            losses(gaps) if lost else resets(gaps),
            value=sum(gap.lost for gap in gaps) if lost else len(gaps),
            threshold=0,
            n_current=len(gaps),
            details={"gaps": [_detail(gap) for gap in gaps[:DETAILED]]},
        )
    if last is None or last[1] is not Verdict.DRIFT or last[0] > window.start:
        return None
    return plain(watch, window, Verdict.OK, model_version, "No gap was recorded since.", value=0, threshold=0)


def partitions(days_ahead: int, last: Last, now: datetime, model_version: str) -> Finding | None:
    """Whether the log has its partitions for the days to come; without today's, `days_ahead` is -1."""
    verdict = Verdict.DRIFT if days_ahead < LEAST_DAYS else Verdict.OK
    if verdict is (Verdict.OK if last is None else last[1]) or set_back(last, now):
        return None
    until = now.date() + timedelta(days=days_ahead + 1)
    return plain(
        PARTITIONS,
        Window(now - timedelta(days=1), now),
        verdict,
        model_version,
        f"The log has partitions for {days_ahead} days after today: rows find a place until {until} 00:00 UTC."
        if days_ahead >= 0
        else "The log has no partition for today: nothing can be written.",
        value=days_ahead,
        threshold=LEAST_DAYS,
    )


def retrain_job(job: Job | None, last: Last, now: datetime, model_version: str) -> Finding | None:
    """A breach when a job has failed that was not told of yet; clear once a later one came further.

    `job` is the newest that ended or waits for the gate; one that a person cancelled says neither.
    """
    if job is None or set_back(last, now):
        return None
    failed = job.state is JobState.FAILED
    if failed and last is not None and job.finished_at is not None and job.finished_at <= last[0]:
        return None
    if not failed and (last is None or last[1] is Verdict.OK):
        return None
    return plain(
        RETRAIN_JOB,
        Window(job.created_at, now),
        Verdict.DRIFT if failed else Verdict.OK,
        model_version,
        f"Job {job.job_id}: {job.error}." if failed else f"Job {job.job_id} is {job.state}.",
        value=float(failed),
        threshold=0,
        n_current=job.attempts,
        details={"job_id": job.job_id, "attempts": job.attempts, "trainer": job.claimed_by},
    )


def rollout(newest: Rollout | None, failed: bool, last: Last, now: datetime, model_version: str) -> Finding | None:
    """A breach when checks took the newest challenger away, told once; clear once another is under way or promoted.

    `failed` says that it was a check that ended it: what a person stopped, or another champion overtook, is no breach.
    """
    if newest is None or set_back(last, now) or now <= newest.started_at:
        return None
    if failed and last is not None and newest.ended_at is not None and newest.ended_at <= last[0]:
        return None
    if not failed and (last is None or last[1] is Verdict.OK):
        return None
    place = f"{newest.place.stage} at {newest.place.percent}%"
    words = f"was taken away in {place}: {newest.reason}" if failed else f"is {newest.outcome or 'under way'}, {place}"
    return plain(
        ROLLOUT,
        Window(newest.started_at, now),
        Verdict.DRIFT if failed else Verdict.OK,
        model_version,
        f"Rollout {newest.rollout_id} of {newest.version} {words}.",
        value=float(failed),
        threshold=0,
        details={"rollout_id": newest.rollout_id, "job_id": newest.job_id, "version": newest.version},
    )


def set_back(last: Last, now: datetime) -> bool:
    """Whether the clock was set back behind the newest finding: wait until it has caught up."""
    return last is not None and now <= last[0]


def _detail(gap: OffsetGap) -> dict[str, Any]:
    return asdict(gap) | {"detected_at": gap.detected_at.isoformat()}

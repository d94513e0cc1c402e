"""In words: what windows are compared with."""

from __future__ import annotations

from datetime import datetime

from monitor.storage.views.models.champion import Champion
from monitor.web.words import clock_time

_ORIGINS = {"checkpoint": "it came with the checkpoint", "file": "made of a labelled file", "period": "made of traffic"}


def compared_with(champion: Champion, now: datetime) -> str:
    """The baseline in use in one line: its number, where it comes from, its hours of day and its thresholds.

    `Baseline 2 (pinned): made of traffic, 21 Feb 00:00 to 28 Feb 00:00; by hour of day; learnt thresholds.`
    """
    if champion.baseline_id is None:
        return "No baseline: there is nothing to compare with."
    pinned = " (pinned)" if champion.baseline_pinned else ""
    origin = _ORIGINS.get(champion.baseline_origin or "", champion.baseline_origin)
    if (period := champion.baseline_period) is not None:
        origin = f"{origin}, {clock_time(period.start, now)} to {clock_time(period.end, now)}"
    thresholds = "learnt thresholds" if champion.baseline_thresholds_learnt else "default thresholds"
    return f"Baseline {champion.baseline_number}{pinned}: {origin}; {_hours(champion.baseline_hours)}; {thresholds}."


def _hours(known: int) -> str:
    if known == 0:
        return "the same at every hour"
    return "by hour of day" if known == 24 else f"by hour of day for {known} of 24 hours"

"""Windows whose data came late: which were judged on less than is known of them now.

A window's finding about the baseline keeps what had been written of its slots when it was judged; a window of which
more, or something else, is written now is judged again. Labels are not looked at: every window judges the newest ones,
so that a late label counts in the next window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.alerts.rules import BASELINE
from monitor.domain.window import Window
from monitor.storage import findings, summaries

AT_ONCE = 12  # windows judged again in one run: as many as a late slot concerns at the defaults
INPUTS = "inputs"  # the detail of the finding about the baseline

Slots = Mapping[datetime, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Late:
    """A window to be judged again, as which revision."""

    end: datetime
    revision: int


def inputs(connection: Connection, window: Window) -> list[int]:
    """What is written of a window's slots. To be read before the summaries: what comes between is then found late."""
    return total(summaries.written(connection, window.start, window.end), window)


def late(
    connection: Connection, model: str, *, version: str, baseline_id: int | None, now: datetime, look_back: timedelta
) -> list[Late]:
    """Windows of the version that now answers, compared with the baseline now in use, whose inputs have changed.

    The oldest AT_ONCE of those that ended within `look_back`.
    """
    judged = findings.about(connection, model, BASELINE, since=now - look_back)
    judged = [one for one in judged if (one.model_version, one.baseline_id) == (version, baseline_id)]
    if not judged:
        return []
    slots = summaries.written(connection, min(one.window.start for one in judged), now)
    changed = [
        Late(one.window.end, one.revision + 1)
        for one in judged
        if INPUTS in one.details and list(one.details[INPUTS]) != total(slots, one.window)
    ]
    return changed[:AT_ONCE]


def total(slots: Slots, window: Window) -> list[int]:
    """What is written of a window's slots, out of those of a longer time."""
    of_window = [numbers for slot, numbers in slots.items() if window.start <= slot < window.end]
    return [sum(rows for rows, _ in of_window), sum(written for _, written in of_window)]

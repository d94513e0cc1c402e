"""Windows whose data or labels came late: which were judged on less than is known of them now.

A window's finding about the baseline keeps what had been written of its slots when it was judged, and how often labels
of its answers had changed; a window of which more, or something else, is known now is judged again. A window is first
judged by the labels that were received in it, whenever their answers were given, so that what labels say is told while
it is new; judged again it goes by its own answers and all that is known of them now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.alerts.names import BASELINE
from monitor.domain.finding import Finding
from monitor.domain.window import Window
from monitor.storage import findings, late_labels, summaries

AT_ONCE = 12  # windows judged again in one run: as many as a late slot concerns at the defaults
# By labels fewer: a label concerns every window of a day, and while more come these would be judged again and again.
LABELS_AT_ONCE = 4
# Details of the finding about the baseline; without the second no label had changed.
INPUTS, LABELS = "inputs", "label_changes"

Slots = Mapping[datetime, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Late:
    """A window to be judged again, as which revision and by what; `before` is its finding about the baseline."""

    end: datetime
    revision: int
    data: bool
    labels: bool
    before: Finding


def inputs(connection: Connection, window: Window) -> list[int]:
    """What is written of a window's slots. To be read before the summaries: what comes between is then found late."""
    return total(summaries.written(connection, window.start, window.end), window)


def label_changes(connection: Connection, version: str, window: Window) -> int:
    """How often labels of a window's answers changed. To be read before the labels."""
    return late_labels.changes(connection, version, window).within(window)


def late(
    connection: Connection,
    model: str,
    *,
    version: str,
    baseline_id: int | None,
    now: datetime,
    look_back: timedelta,
    labels: timedelta,
) -> list[Late]:
    """Windows of the version that now answers, compared with the baseline now in use, of which something has changed.

    Of those that ended within `look_back` the oldest AT_ONCE whose inputs changed, and the oldest LABELS_AT_ONCE of
    whose answers of the time `labels` up to their end a label did.
    """
    about = findings.about(connection, model, BASELINE, since=now - look_back)
    judged = [one for one in about if (one.finding.model_version, one.finding.baseline_id) == (version, baseline_id)]
    if not judged:
        return []
    slots = summaries.written(connection, min(one.finding.window.start for one in judged), now)
    first = min(one.finding.window.end for one in judged)
    changes = late_labels.changes(connection, version, Window(first - labels, now))

    def by_data(finding: Finding) -> bool:
        return INPUTS in finding.details and list(finding.details[INPUTS]) != total(slots, finding.window)

    def by_labels(finding: Finding) -> bool:
        looked_at = Window(finding.window.end - labels, finding.window.end)
        return bool(finding.details.get(LABELS, 0) != changes.within(looked_at))

    of_data = [one.finding.window for one in judged if by_data(one.finding)][:AT_ONCE]
    of_labels = [one.finding.window for one in judged if by_labels(one.finding)][:LABELS_AT_ONCE]
    return [
        Late(window.end, one.revision + 1, window in of_data, window in of_labels, one.finding)
        for one in judged
        if (window := one.finding.window) in of_data or window in of_labels
    ]


def total(slots: Slots, window: Window) -> list[int]:
    """What is written of a window's slots, out of those of a longer time."""
    of_window = [numbers for slot, numbers in slots.items() if window.start <= slot < window.end]
    return [sum(rows for rows, _ in of_window), sum(written for _, written in of_window)]

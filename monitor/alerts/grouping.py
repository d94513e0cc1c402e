"""When a group of messages is told: what comes within the wait goes together, and the next ones after an interval.

The terms, and their defaults, are those of Prometheus Alertmanager: `group_wait`, `group_interval`, `repeat_interval`.
A group is one receiver's alerts of one name, model and version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitor.alerts.stages import RESOLVED, Context, Notice


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a new group waits for more, how far its messages are apart, and when what still fires is repeated.

    `flap` is how long changes of an alert count towards its flapping. Receivers in `at_once` group by themselves.
    """

    wait: timedelta = timedelta(seconds=30)
    interval: timedelta = timedelta(minutes=5)
    repeat: timedelta = timedelta(hours=4)
    flap: timedelta = timedelta(minutes=30)
    at_once: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Group:
    """What the notification log says of a group: when its next message is due, if one waits, and when the last went."""

    waiting_until: datetime | None = None
    last_sent: datetime | None = None


def group_key(notice: Notice, model: str) -> str:
    """What alerts that are told together have in common."""
    return "/".join((notice.tracked.alertname, model, notice.tracked.model_version))


def due_at(notice: Notice, group: Group, context: Context, timing: Timing) -> datetime:
    """When a notice is to be sent. A group whose alerts are all over begins anew, so that a first page waits little."""
    if notice.receiver in timing.at_once:
        return context.now
    if group.waiting_until is not None:
        return group.waiting_until
    if group.last_sent is not None and _is_told(notice, context):
        # no longer than an interval from now, should the clock have been set back
        next_message = min(group.last_sent, context.now) + timing.interval
        if next_message > context.now:
            return next_message
    return context.now + timing.wait


def _is_told(notice: Notice, context: Context) -> bool:
    """Whether the receiver knows of a firing alert of the group."""
    tracked = notice.tracked
    return notice.event == RESOLVED or (notice.receiver, tracked.alertname, tracked.model_version) in context.told_of


def together(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One message for those of a group (at least one): the first, with what tells the others apart in `grouped`."""
    first, *others = messages
    if not others:
        return dict(first)
    names = ", ".join(each["modality"] for each in others)
    kept = ("alert_id", "fingerprint", "modality", "since", "resolved_at", "summary", "value", "interval", "threshold")
    return {
        **first,
        "summary": f"{first['summary']} (and {len(others)} more: {names})",
        "grouped": [{name: each.get(name) for name in kept} for each in others],
    }

"""An alert's life as a pure state machine: pending, firing, resolved.

One step looks at one window's verdict. Three rules keep it trustworthy: a window that does not end later than the last
one that counted changes nothing (a restart, a second monitor or a clock set back neither repeats nor resolves early);
a verdict that says neither yes nor no (`insufficient`, mostly) changes nothing; and clearing takes several windows in a
row, as firing does (the `for` and `keep_firing_for` of Prometheus alerting rules).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class State(StrEnum):
    """Where an alert is in its life."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Event(StrEnum):
    """What a step did that somebody may have to be told of."""

    NONE = "none"
    FIRED = "fired"
    RESOLVED = "resolved"


class Signal(StrEnum):
    """A window's verdict as one rule reads it.

    `URGENT` is a breach that does not wait for `for_windows`; `UNKNOWN` neither fires nor resolves.
    """

    BREACH = "breach"
    URGENT = "urgent"
    CLEAR = "clear"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Patience:
    """`for_windows` breached windows make an alert fire; `clear_windows` clear ones in a row resolve it."""

    for_windows: int
    clear_windows: int

    def __post_init__(self) -> None:
        if self.for_windows < 1 or self.clear_windows < 1:
            raise ValueError("an alert needs at least one window to fire and one to clear")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert between two windows. Times are window ends, in UTC.

    A resolved alert without `firing_since` was pending only: nobody was told.
    """

    fingerprint: str
    state: State
    pending_since: datetime
    last_window_end: datetime
    breached_windows: int
    clear_windows: int = 0
    firing_since: datetime | None = None
    clear_since: datetime | None = None
    resolved_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is pending or firing."""
        return self.state is not State.RESOLVED


@dataclass(frozen=True, slots=True)
class Step:
    """The alert after a window, None where there is still none, and what happened."""

    alert: Alert | None
    event: Event


def fingerprint(alertname: str, labels: Mapping[str, str]) -> str:
    """SHA-256, in hexadecimal, over the name and the sorted labels. What names one series of alerts."""
    canonical = json.dumps([alertname, sorted(labels.items())], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def step(current: Alert | None, series: str, patience: Patience, signal: Signal, window_end: datetime) -> Step:
    """Move the open alert of a series (or None) by one window. A resolved alert counts as none.

    `window_end` is when the window that gave `signal` ended; `series` is the fingerprint a new alert gets.
    """
    if signal is Signal.UNKNOWN or (current is not None and window_end <= current.last_window_end):
        return Step(current, Event.NONE)
    if current is not None and not current.is_open:
        current = None
    if signal is Signal.CLEAR:
        return Step(None, Event.NONE) if current is None else _clear(current, patience, window_end)
    if current is None:
        current = Alert(series, State.PENDING, window_end, window_end, breached_windows=0)
    return _breach(current, patience, signal is Signal.URGENT, window_end)


def _breach(alert: Alert, patience: Patience, urgent: bool, window_end: datetime) -> Step:
    seen = replace(
        alert,
        last_window_end=window_end,
        breached_windows=alert.breached_windows + 1,
        clear_windows=0,
        clear_since=None,
    )
    if alert.state is State.FIRING or not (urgent or seen.breached_windows >= patience.for_windows):
        return Step(seen, Event.NONE)
    return Step(replace(seen, state=State.FIRING, firing_since=window_end), Event.FIRED)


def _clear(alert: Alert, patience: Patience, window_end: datetime) -> Step:
    seen = replace(
        alert,
        last_window_end=window_end,
        clear_windows=alert.clear_windows + 1,
        clear_since=alert.clear_since or window_end,
    )
    if alert.state is State.PENDING:
        # Nobody was told, so there is nothing to keep up: breaches must come in a row.
        return Step(replace(seen, state=State.RESOLVED, resolved_at=window_end), Event.NONE)
    if seen.clear_windows < patience.clear_windows:
        return Step(seen, Event.NONE)
    return Step(replace(seen, state=State.RESOLVED, resolved_at=window_end), Event.RESOLVED)

"""Damping: a series that keeps firing and resolving is told of once, as a ticket, until it settles.

It flaps from MANY changes within a period on, until there are fewer than FEW: one bound for both would flap itself. A
series of which nobody has heard, as it is inhibited or silenced, needs no ticket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from monitor.alerts.message import Links
from monitor.alerts.stages import Context, Tracked, changes
from monitor.domain.alert import Alert, State, fingerprint

ALERTNAME = "AlertFlapping"
RUNBOOK = "alert-flapping"
MANY, FEW = 4, 2


@dataclass(frozen=True, slots=True)
class Begun:
    """A ticket to open: its labels, its alert and what it says."""

    labels: Mapping[str, str]
    alert: Alert
    annotations: Mapping[str, Any]


def begun(
    context: Context, model: str, told: Mapping[int, Mapping[str, Any]], links: Links, period: timedelta
) -> list[Begun]:
    """A ticket for each series that has come to flap. `told` are the annotations of each alert, by id."""
    found = []
    for series, newest in _newest(context.alerts).items():
        count = changes(series, context, period)
        if count < MANY or series in context.flapping or not _anybody_heard(series, context):
            continue
        labels = {"model": model, "modality": newest.modality, "flapping": newest.alertname}
        found.append(
            Begun(
                labels, _firing(fingerprint(ALERTNAME, labels), context.at), _said(newest, count, told, links, period)
            )
        )
    return found


def settled(context: Context, period: timedelta) -> list[tuple[Tracked, Alert]]:
    """The open tickets whose series no longer flaps, each with its resolved alert."""
    return [
        (one, _resolved(one.alert, context.at))
        for one in context.alerts
        if one.flaps and one.alert.is_open and changes(one.flaps, context, period) < FEW
    ]


def _anybody_heard(series: str, context: Context) -> bool:
    heard = {alert_id for alert_id, _ in context.heard}
    return any(one.alert_id in heard for one in context.series[series])


def _newest(tracked: Iterable[Tracked]) -> dict[str, Tracked]:
    return {one.alert.fingerprint: one for one in sorted(tracked, key=lambda one: one.alert_id) if not one.flaps}


def _said(
    newest: Tracked, count: int, told: Mapping[int, Mapping[str, Any]], links: Links, period: timedelta
) -> dict[str, Any]:
    minutes = period.total_seconds() / 60
    return {
        **told[newest.alert_id],
        "summary": f"{newest.title} has fired and resolved {count} times in {minutes:g} minutes. Until it settles, "
        "this ticket stands for it",
        "value": count,
        "interval": None,
        "threshold": MANY,
        "p_value": None,
        "moved": [],
        "runbook": links.runbook(RUNBOOK),
        "flaps": newest.alert.fingerprint,
        "flapping": newest.alertname,
    }


def _firing(series: str, at: datetime) -> Alert:
    return Alert(series, State.FIRING, at, at, breached_windows=1, firing_since=at)


def _resolved(alert: Alert, at: datetime) -> Alert:
    return replace(alert, state=State.RESOLVED, last_window_end=at, clear_windows=1, clear_since=at, resolved_at=at)

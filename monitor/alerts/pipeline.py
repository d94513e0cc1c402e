"""From alerts to notices: which are due, which are suppressed, and why."""

from __future__ import annotations

from collections.abc import Collection

from monitor.alerts.stages import (
    FIRING,
    RESOLVED,
    Context,
    Notice,
    Stage,
    damp,
    firing_was_told,
    inhibit,
    not_yet_notified,
    route,
    say_again,
    silence,
)
from monitor.domain.alert import State

STAGES: tuple[Stage, ...] = (
    route,
    inhibit,
    silence,
    damp,
    firing_was_told,
    say_again,
    not_yet_notified,
)


def run(context: Context, resolved_now: Collection[int]) -> tuple[Notice, ...]:
    """The notification rows to write after an evaluation.

    Every firing alert is offered each time, so that one that is held back no more is told of then; of resolved alerts
    only those in `resolved_now` (alert ids) that had fired.
    """
    notices = tuple(
        Notice(tracked, FIRING if tracked.alert.state is State.FIRING else RESOLVED)
        for tracked in context.alerts
        if tracked.alert.state is State.FIRING or tracked.alert_id in resolved_now
    )
    for stage in STAGES:
        notices = stage(notices, context)
    return notices

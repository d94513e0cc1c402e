"""What would become of an alert that fires now: to whom its routes send it, and which stage would stop it there."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.alerts.pipeline import STAGES
from monitor.alerts.routes import chosen
from monitor.alerts.stages import FIRING, Context, Notice, Tracked, silencer

TOLD = {"sent": "it was told already", "due": "it waits to be sent", "failed": "it could not be told"}


@dataclass(frozen=True, slots=True)
class Explained:
    """One receiver: the route to it, and the stage that stops the alert with the reason; no stage where it is sent."""

    receiver: str
    route: str
    stage: str | None
    reason: str


def explain(tracked: Tracked, context: Context) -> list[Explained]:
    """By each receiver what the stages make of the alert, were it firing now."""
    notices: tuple[Notice, ...] = (Notice(tracked, FIRING),)
    stopped: dict[str, tuple[str, str]] = {}
    for stage in STAGES:
        before = {notice.receiver for notice in notices if notice.receiver}
        notices = stage(notices, context)
        for notice in notices:
            if notice.suppressed and notice.receiver not in stopped:
                stopped[notice.receiver] = (stage.__name__, _suppressed(notice, context))
        for receiver in before - {notice.receiver for notice in notices} - stopped.keys():
            stopped[receiver] = (stage.__name__, _known(tracked, receiver, context))
    sent = {notice.receiver: "it is said again" if notice.again else "it is sent" for notice in notices}
    return [
        Explained(receiver, str(route), *(stopped.get(receiver) or (None, sent[receiver])))
        for receiver, route in chosen(context.routes, tracked.labels).items()
    ]


def _suppressed(notice: Notice, context: Context) -> str:
    held = silencer(notice.tracked, context)
    if held is not None and (notice.suppressed or "").startswith("silenced"):
        until = held.end.isoformat(timespec="minutes")
        return f"{notice.suppressed} by {held.owner} until {until}: {held.reason}"
    return notice.suppressed or ""


def _known(tracked: Tracked, receiver: str, context: Context) -> str:
    key = (tracked.alert_id, FIRING, receiver)
    at = context.sent.get(key)
    said = TOLD.get(context.told.get(key, ""), "the log holds it")
    return said if at is None else f"{said} at {at.isoformat(timespec='seconds')}"

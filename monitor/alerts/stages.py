"""The stages a notice passes on its way to receivers. Each has one signature and gives a named reason.

An inhibition lingers for one window length after its cause has resolved. Windows hold the incident's rows for so long;
what the inhibited alert takes to clear beyond that, its cause took to resolve.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from monitor.alerts.inhibitions import BY_TARGET, SAME, Inhibition
from monitor.alerts.routes import Route, chosen
from monitor.domain.alert import Alert, State
from monitor.domain.silence import Silence

FIRING, RESOLVED = "firing", "resolved"  # the events a receiver may be told of
PAGE = "page"
DUE, SENT, FAILED, SUPPRESSED = "due", "sent", "failed", "suppressed"  # a notification's status


@dataclass(frozen=True, slots=True)
class Tracked:
    """An alert with what names it, and what people have said of it.

    `silenced_by` is the silence that held it when it was last looked at; `flaps` of a ticket about flapping the
    fingerprint of the series that does.
    """

    alert_id: int
    alertname: str
    severity: str
    modality: str
    alert: Alert
    model_version: str = ""
    silenced_by: int | None = None
    acknowledged: bool = False
    flaps: str | None = None

    @property
    def title(self) -> str:
        """E.g. `EmbeddingDrift(image)`."""
        return f"{self.alertname}({self.modality})"

    @property
    def labels(self) -> dict[str, str]:
        """What silences and routes match."""
        return {
            "alertname": self.alertname,
            "modality": self.modality,
            "model_version": self.model_version,
            "severity": self.severity,
        }


@dataclass(frozen=True, slots=True)
class Notice:
    """Something one receiver may have to be told. `suppressed` holds why not, `reason` why it is told.

    `again` marks what the receiver has been told before.
    """

    tracked: Tracked
    event: str
    receiver: str = ""
    reason: str | None = None
    suppressed: str | None = None
    again: bool = False


@dataclass(frozen=True)
class Context:
    """What stages look at, and what they find by: an evaluation may hold ten thousand alerts.

    `alerts` are the model's open and lately resolved alerts; `told` the status of each notification already written,
    by (alert, event, receiver), and `sent` when it was sent last; `routes` say who is told of what; `at` is the end of
    the window being judged and `now` the wall clock; `silences` those that hold now; a firing alert is told
    again after `repeat`, counted from when it was `sent`, or from when a message that `failed` was written.
    """

    alerts: tuple[Tracked, ...]
    told: Mapping[tuple[int, str, str], str]
    routes: tuple[Route, ...]
    at: datetime
    window: timedelta
    now: datetime
    sent: Mapping[tuple[int, str, str], datetime] = field(default_factory=dict)
    failed: Mapping[tuple[int, str, str], datetime] = field(default_factory=dict)
    silences: tuple[Silence, ...] = ()
    repeat: timedelta = timedelta(hours=4)

    @cached_property
    def causes(self) -> Mapping[str, Sequence[Tracked]]:
        """By name, the alerts that can explain others now: firing ones, then pending, then resolved, oldest first."""
        order = (State.FIRING, State.PENDING, State.RESOLVED)
        found: dict[str, list[Tracked]] = defaultdict(list)
        for one in sorted(self.alerts, key=lambda each: (order.index(each.alert.state), each.alert_id)):
            if _still_counts(one, self):
                found[one.alertname].append(one)
        return found

    @cached_property
    def same_causes(self) -> Mapping[tuple[str, str], Tracked]:
        """The first of the causes of one name and modality."""
        found: dict[tuple[str, str], Tracked] = {}
        for causes in self.causes.values():
            for one in causes:
                found.setdefault((one.alertname, one.modality), one)
        return found

    @cached_property
    def series(self) -> Mapping[str, Sequence[Tracked]]:
        """Alerts by fingerprint."""
        found: dict[str, list[Tracked]] = defaultdict(list)
        for one in self.alerts:
            found[one.alert.fingerprint].append(one)
        return found

    @cached_property
    def flapping(self) -> Set[str]:
        """The fingerprints of series of which a ticket about their flapping is open."""
        return {one.flaps for one in self.alerts if one.flaps and one.alert.is_open}

    @cached_property
    def heard(self) -> Set[tuple[int, str]]:
        """Whom any firing message was, or is about to be, told: alerts and receivers."""
        due = {(alert_id, to) for (alert_id, event, to), status in self.told.items() if _told(event, status)}
        return due | {(alert_id, to) for alert_id, event, to in self.sent if event == FIRING}

    @cached_property
    def told_of(self) -> Set[tuple[str, str, str]]:
        """Which names and versions of alerts that fire now a receiver was told of: receiver, name, version."""
        names = {one.alert_id: one for one in self.alerts if one.alert.state is State.FIRING}
        return {
            (to, names[alert_id].alertname, names[alert_id].model_version)
            for alert_id, event, to in self.sent
            if event == FIRING and alert_id in names
        }


Stage = Callable[[tuple[Notice, ...], Context], tuple[Notice, ...]]


def inhibitor(target: Tracked, context: Context) -> Tracked | None:
    """The alert that explains `target` now, if one does: firing ones before pending ones before resolved ones."""
    order = (State.FIRING, State.PENDING, State.RESOLVED)
    causes = [
        cause
        for rule in BY_TARGET.get(target.alertname, ())
        if (cause := _cause(rule, target.modality, context)) is not None
    ]
    return min(causes, key=lambda cause: (order.index(cause.alert.state), cause.alert_id), default=None)


def _cause(rule: Inhibition, modality: str, context: Context) -> Tracked | None:
    """The first alert that explains one of that modality by the rule."""
    if rule.modality == SAME:
        return None if modality == rule.cause_not else context.same_causes.get((rule.cause, modality))
    if rule.modality not in ("", modality):
        return None
    return next((one for one in context.causes.get(rule.cause, ()) if one.modality != rule.cause_not), None)


def _still_counts(cause: Tracked, context: Context) -> bool:
    """A pending cause counts: it may be one window behind its consequence, and is decided within a few."""
    if cause.alert.is_open:
        return True
    if cause.alert.firing_since is None or cause.alert.resolved_at is None:
        return False
    return context.at <= cause.alert.resolved_at + context.window


def route(notices: tuple[Notice, ...], context: Context) -> tuple[Notice, ...]:
    """One notice for each receiver that routes name; that it is over also to whom the firing was told.

    Routes may have changed since, or the model's version, by which they may go.
    """
    told_to: dict[int, list[str]] = defaultdict(list)
    for alert_id, receiver in sorted(context.heard):
        told_to[alert_id].append(receiver)

    def reasons(notice: Notice) -> dict[str, str]:
        found = {to: f"routed: {route}" for to, route in chosen(context.routes, notice.tracked.labels).items()}
        heard = told_to.get(notice.tracked.alert_id, ()) if notice.event == RESOLVED else ()
        return dict.fromkeys(heard, "routed: the firing was told") | found

    return tuple(
        replace(notice, receiver=receiver, reason=reason)
        for notice in notices
        for receiver, reason in reasons(notice).items()
    )


def inhibit(notices: tuple[Notice, ...], context: Context) -> tuple[Notice, ...]:
    """A firing alert that another one explains is not told of."""

    def stage(notice: Notice) -> Notice:
        cause = inhibitor(notice.tracked, context) if notice.event == FIRING else None
        return notice if cause is None else replace(notice, suppressed=f"inhibited: {cause.title}")

    return tuple(stage(notice) for notice in notices)


def silencer(target: Tracked, context: Context) -> Silence | None:
    """The silence that holds an alert back now: of several the one that ends last."""
    holding = [each for each in context.silences if each.holds(target.labels, context.now)]
    return max(holding, key=lambda each: (each.end, each.silence_id), default=None)


def silence(notices: tuple[Notice, ...], context: Context) -> tuple[Notice, ...]:
    """A firing alert that somebody silenced is not told of. That it is over is told to whom it was told before."""

    def stage(notice: Notice) -> Notice:
        if notice.event != FIRING or notice.suppressed:
            return notice
        held = silencer(notice.tracked, context)
        return notice if held is None else replace(notice, suppressed=f"silenced: {held.kind} {held.silence_id}")

    return tuple(stage(notice) for notice in notices)


def _told(event: str, status: str) -> bool:
    return event == FIRING and status in (DUE, SENT)


def changes(series: str, context: Context, period: timedelta) -> int:
    """How often a series of alerts has fired or resolved within `period`, both ends included."""
    alerts = [one.alert for one in context.series.get(series, ()) if one.alert.firing_since]
    moments = [moment for alert in alerts for moment in (alert.firing_since, alert.resolved_at) if moment is not None]
    return sum(moment >= context.at - period for moment in moments)


def damp(notices: tuple[Notice, ...], context: Context) -> tuple[Notice, ...]:
    """A series that flaps is left to its ticket; but not a page to a receiver that has heard none of the series.

    A page that still waits for its group has not been heard, and goes out.
    """

    def heard(notice: Notice) -> bool:
        own = (notice.tracked.alert_id, FIRING, notice.receiver)
        others = context.series.get(notice.tracked.alert.fingerprint, ())
        told = [one.alert_id for one in others if one.alert_id != notice.tracked.alert_id]
        sent = own in context.sent or context.told.get(own) == SENT
        return sent or any((alert_id, notice.receiver) in context.heard for alert_id in told)

    def stage(notice: Notice) -> Notice:
        if notice.event != FIRING or notice.suppressed or notice.tracked.alert.fingerprint not in context.flapping:
            return notice
        first = notice.tracked.severity == PAGE and not heard(notice)
        return notice if first else replace(notice, suppressed="flapping")

    return tuple(stage(notice) for notice in notices)


def firing_was_told(notices: tuple[Notice, ...], context: Context) -> tuple[Notice, ...]:
    """A resolve is told only to whom the firing was, or is about to be, told."""

    def stage(notice: Notice) -> Notice:
        if notice.event != RESOLVED or notice.suppressed:
            return notice
        told = (notice.tracked.alert_id, notice.receiver) in context.heard
        return notice if told else replace(notice, suppressed="firing_not_told")

    return tuple(stage(notice) for notice in notices)


def say_again(notices: tuple[Notice, ...], context: Context) -> tuple[Notice, ...]:
    """What still fires is told once more when its silence has ended, and each `repeat` until it is acknowledged.

    So is what its receiver refused, or could not be reached for: it may be well again.
    """

    def stage(notice: Notice) -> Notice:
        if notice.event != FIRING or notice.suppressed:
            return notice
        key = (notice.tracked.alert_id, FIRING, notice.receiver)
        status = context.told.get(key)
        if notice.tracked.silenced_by is not None:
            again = status in (SENT, FAILED)
            return replace(notice, reason=f"silence_ended: {notice.tracked.silenced_by}", again=again)
        last = context.failed.get(key) if status == FAILED else context.sent.get(key) if status == SENT else None
        if last is None or context.now - last < context.repeat or notice.tracked.acknowledged:
            return notice
        return replace(notice, reason="repeated" if status == SENT else "tried_again", again=True)

    return tuple(stage(notice) for notice in notices)


def not_yet_notified(notices: tuple[Notice, ...], context: Context) -> tuple[Notice, ...]:
    """Drop what the notification log already holds, unless it is to be said again.

    A suppressed notice may still turn into one that is due, and one that waits for its group be suppressed.
    """

    def is_new(notice: Notice) -> bool:
        told = context.told.get((notice.tracked.alert_id, notice.event, notice.receiver))
        if notice.suppressed:
            return told is None or (told == DUE and notice.event == FIRING)
        return told is None or told == SUPPRESSED or notice.again

    return tuple(notice for notice in notices if is_new(notice))

"""The stages a notice passes on its way to receivers. Each has one signature and gives a named reason.

An inhibition lingers for one window length after its cause has resolved. Windows hold the incident's rows for so long;
what the inhibited alert takes to clear beyond that, its cause took to resolve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from monitor.alerts.routes import Route, chosen
from monitor.domain.alert import Alert, State
from monitor.domain.silence import Silence

FIRING, RESOLVED = "firing", "resolved"  # the events a receiver may be told of
PAGE = "page"
DUE, SENT, FAILED, SUPPRESSED = "due", "sent", "failed", "suppressed"  # a notification's status
SAME = "<same>"  # in an inhibition: the modality of its cause
FUSED = "fused"


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


@dataclass(frozen=True, slots=True)
class Context:
    """What stages look at.

    `alerts` are the model's open and lately resolved alerts; `told` the status of each notification already written,
    by (alert, event, receiver), and `sent` when it was sent last; `routes` say who is told of what; `at` is the end of
    the window being judged and `now` the wall clock; `silences` those that hold now; a firing alert is told
    again after `repeat`.
    """

    alerts: tuple[Tracked, ...]
    told: Mapping[tuple[int, str, str], str]
    routes: tuple[Route, ...]
    at: datetime
    window: timedelta
    now: datetime
    sent: Mapping[tuple[int, str, str], datetime] = field(default_factory=dict)
    silences: tuple[Silence, ...] = ()
    repeat: timedelta = timedelta(hours=4)


Stage = Callable[[tuple[Notice, ...], Context], tuple[Notice, ...]]


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While `cause` is open, `target` is explained by it. `modality` limits the target: SAME, a name, or "" for any."""

    cause: str
    target: str
    modality: str = ""
    cause_not: str = ""


INHIBITIONS: tuple[Inhibition, ...] = (
    Inhibition("ModalityUnavailable", "EmbeddingDrift", SAME),
    Inhibition("ModalityUnavailable", "EmbeddingDrift", FUSED),
    Inhibition("ModalityUnavailable", "PairingDrift"),
    Inhibition("ModalityUnavailable", "AgreementDrop"),
    Inhibition("ModalityUnavailable", "PredictionDrift"),
    Inhibition("ModalityUnavailable", "ContributionDrift"),
    Inhibition("EmbeddingDrift", "PairingDrift", cause_not=FUSED),
    Inhibition("EmbeddingDrift", "EmbeddingDrift", FUSED, cause_not=FUSED),
    Inhibition("EmbeddingDrift", "PredictionDrift", cause_not=FUSED),
    Inhibition("EmbeddingDrift", "AgreementDrop", cause_not=FUSED),
    Inhibition("EmbeddingDrift", "ContributionDrift", cause_not=FUSED),
    Inhibition("PairingDrift", "EmbeddingDrift", FUSED),
    Inhibition("PairingDrift", "PredictionDrift"),
    Inhibition("PairingDrift", "AgreementDrop"),
    Inhibition("PairingDrift", "ContributionDrift"),
    # classes contribute unequally
    Inhibition("PredictionDrift", "ContributionDrift"),
    Inhibition("ModalityUnavailable", "QualityShapeDrift", SAME),
    Inhibition("EmbeddingDrift", "QualityShapeDrift", SAME),
    Inhibition("ModalityUnavailable", "ConfidenceDrift"),
    Inhibition("EmbeddingDrift", "ConfidenceDrift"),
    Inhibition("QualityShapeDrift", "ConfidenceDrift"),
    Inhibition("PairingDrift", "ConfidenceDrift"),
    Inhibition("PredictionDrift", "ConfidenceDrift"),
    # the sentence of the pairing says who runs late
    Inhibition("ModalityUnavailable", "Misalignment"),
    Inhibition("PairingDrift", "Misalignment"),
    Inhibition("Misalignment", "ConfidenceDrift"),
    # what a window shows by itself is told first, and more plainly
    Inhibition("ModalityUnavailable", "GradualUnavailability", SAME),
    Inhibition("ModalityUnavailable", "GradualDrift"),
    Inhibition("EmbeddingDrift", "GradualDrift"),
    Inhibition("PairingDrift", "GradualDrift", FUSED),
    Inhibition("PredictionDrift", "GradualDrift", FUSED),
    Inhibition("AgreementDrop", "GradualDrift", FUSED),
    Inhibition("ContributionDrift", "GradualDrift", FUSED),
    Inhibition("QualityShapeDrift", "GradualDrift", SAME),
    Inhibition("ConfidenceDrift", "GradualDrift", FUSED),
    Inhibition("Misalignment", "GradualDrift", FUSED),
    Inhibition("GradualDrift", "GradualDrift", FUSED, cause_not=FUSED),
    # an outage is told as that, and not again by what it costs; of an objective the faster burn is told
    Inhibition("ModalityUnavailable", "ErrorBudgetBurnFast", SAME),
    Inhibition("ModalityUnavailable", "ErrorBudgetBurnSlow", SAME),
    Inhibition("ModalityUnavailable", "ErrorBudgetBurnSlow", "agreement"),
    Inhibition("ErrorBudgetBurnFast", "ErrorBudgetBurnSlow", SAME),
    Inhibition("ErrorBudgetBurnFast", "GradualUnavailability", SAME),
    Inhibition("AgreementDrop", "ErrorBudgetBurnSlow", "agreement"),
    Inhibition("PairingDrift", "ErrorBudgetBurnSlow", "agreement"),
    Inhibition("EmbeddingDrift", "ErrorBudgetBurnSlow", "agreement", cause_not=FUSED),
)


def inhibitor(target: Tracked, context: Context) -> Tracked | None:
    """The alert that explains `target` now, if one does: firing ones before pending ones before resolved ones."""
    order = (State.FIRING, State.PENDING, State.RESOLVED)
    causes = [cause for cause in context.alerts if _explains(cause, target) and _still_counts(cause, context)]
    return min(causes, key=lambda cause: (order.index(cause.alert.state), cause.alert_id), default=None)


def _explains(cause: Tracked, target: Tracked) -> bool:
    return any(
        rule.cause == cause.alertname
        and rule.target == target.alertname
        and rule.modality in ("", target.modality, SAME if cause.modality == target.modality else "")
        and rule.cause_not != cause.modality
        for rule in INHIBITIONS
    )


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
    told_to: dict[int, list[str]] = {}
    for (alert_id, event, receiver), status in context.told.items():
        if event == FIRING and (status in (DUE, SENT) or (alert_id, event, receiver) in context.sent):
            told_to.setdefault(alert_id, []).append(receiver)

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


def changes(series: str, context: Context, period: timedelta) -> int:
    """How often a series of alerts has fired or resolved within `period`, both ends included."""
    alerts = [one.alert for one in context.alerts if one.alert.fingerprint == series and one.alert.firing_since]
    moments = [moment for alert in alerts for moment in (alert.firing_since, alert.resolved_at) if moment is not None]
    return sum(moment >= context.at - period for moment in moments)


def flapping(target: Tracked, context: Context) -> bool:
    """Whether a ticket about the alert's flapping is open."""
    return any(one.flaps == target.alert.fingerprint and one.alert.is_open for one in context.alerts)


def damp(notices: tuple[Notice, ...], context: Context) -> tuple[Notice, ...]:
    """A series that flaps is left to its ticket; but not a page to a receiver that has heard none of the series."""

    def heard(notice: Notice) -> bool:
        series = notice.tracked.alert.fingerprint
        keys = [(one.alert_id, FIRING, notice.receiver) for one in context.alerts if one.alert.fingerprint == series]
        return any(key in context.sent or context.told.get(key) in (DUE, SENT) for key in keys)

    def stage(notice: Notice) -> Notice:
        if notice.event != FIRING or notice.suppressed or not flapping(notice.tracked, context):
            return notice
        first = notice.tracked.severity == PAGE and not heard(notice)
        return notice if first else replace(notice, suppressed="flapping")

    return tuple(stage(notice) for notice in notices)


def firing_was_told(notices: tuple[Notice, ...], context: Context) -> tuple[Notice, ...]:
    """A resolve is told only to whom the firing was, or is about to be, told."""

    def stage(notice: Notice) -> Notice:
        if notice.event != RESOLVED or notice.suppressed:
            return notice
        key = (notice.tracked.alert_id, FIRING, notice.receiver)
        told = key in context.sent or context.told.get(key) in (DUE, SENT)
        return notice if told else replace(notice, suppressed="firing_not_told")

    return tuple(stage(notice) for notice in notices)


def say_again(notices: tuple[Notice, ...], context: Context) -> tuple[Notice, ...]:
    """What still fires is told once more when its silence has ended, and each `repeat` until it is acknowledged."""

    def stage(notice: Notice) -> Notice:
        if notice.event != FIRING or notice.suppressed:
            return notice
        key = (notice.tracked.alert_id, FIRING, notice.receiver)
        known = context.told.get(key) == SENT
        if notice.tracked.silenced_by is not None:
            return replace(notice, reason=f"silence_ended: {notice.tracked.silenced_by}", again=known)
        last = context.sent.get(key)
        if known and last is not None and context.now - last >= context.repeat and not notice.tracked.acknowledged:
            return replace(notice, reason="repeated", again=True)
        return notice

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

"""The pipeline: who is told, who is not, and the reason that is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from monitor.alerts import pipeline
from monitor.alerts.routes import Route, parse
from monitor.alerts.stages import (
    DUE,
    FAILED,
    FIRING,
    INHIBITIONS,
    RESOLVED,
    SENT,
    SUPPRESSED,
    Context,
    Notice,
    Tracked,
    inhibitor,
)
from monitor.domain.alert import Alert, State

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOP, WINDOW = timedelta(minutes=5), timedelta(hours=1)
ROUTES = (Route("pager", (parse("severity=page"),), on=True), Route("log"))


def tracked(
    alert_id: int,
    name: str,
    modality: str = "image",
    state: State = State.FIRING,
    *,
    severity: str = "ticket",
    resolved_at: datetime | None = None,
    fired: bool = True,
) -> Tracked:
    alert = Alert(
        fingerprint=f"{name}-{modality}",
        state=state,
        pending_since=T0,
        last_window_end=T0,
        breached_windows=2,
        firing_since=T0 if fired and state is not State.PENDING else None,
        resolved_at=resolved_at,
    )
    return Tracked(alert_id, name, severity, modality, alert)


def context(*alerts: Tracked, told: dict[tuple[int, str, str], str] | None = None, at: datetime = T0) -> Context:
    return Context(alerts, told or {}, ROUTES, at, WINDOW, now=at)


def rows(notices: tuple[Notice, ...]) -> list[tuple[int, str, str, str | None]]:
    return [(one.tracked.alert_id, one.event, one.receiver, one.suppressed) for one in notices]


def test_routes_decide_the_receivers() -> None:
    page = tracked(1, "ModalityUnavailable", severity="page")
    assert rows(pipeline.run(context(page), ())) == [(1, FIRING, "pager", None), (1, FIRING, "log", None)]
    assert pipeline.run(context(page), ())[0].reason == 'routed: severity="page"'


def test_pending_alerts_are_told_to_nobody() -> None:
    assert pipeline.run(context(tracked(1, "PairingDrift", state=State.PENDING)), ()) == ()


@pytest.mark.parametrize(
    ("cause", "target", "held"),
    [
        (("ModalityUnavailable", "image"), ("EmbeddingDrift", "image"), True),
        (("ModalityUnavailable", "image"), ("EmbeddingDrift", "fused"), True),
        (("ModalityUnavailable", "image"), ("EmbeddingDrift", "text"), False),
        (("ModalityUnavailable", "image"), ("PairingDrift", "fused"), True),
        (("ModalityUnavailable", "image"), ("AgreementDrop", "fused"), True),
        (("ModalityUnavailable", "image"), ("PredictionDrift", "fused"), True),
        (("ModalityUnavailable", "image"), ("ModalityUnavailable", "text"), False),
        (("ModalityUnavailable", "image"), ("AccuracyDrop", "fused"), False),
        (("EmbeddingDrift", "text"), ("EmbeddingDrift", "fused"), True),
        (("EmbeddingDrift", "text"), ("PairingDrift", "fused"), True),
        (("EmbeddingDrift", "text"), ("EmbeddingDrift", "image"), False),
        (("EmbeddingDrift", "fused"), ("EmbeddingDrift", "fused"), False),
        (("EmbeddingDrift", "fused"), ("PredictionDrift", "fused"), False),
        (("PairingDrift", "fused"), ("EmbeddingDrift", "fused"), True),
        (("PairingDrift", "fused"), ("EmbeddingDrift", "image"), False),
        (("PairingDrift", "fused"), ("CalibrationDrift", "fused"), False),
        (("StreamSilent", "all"), ("ModalityUnavailable", "image"), False),
        (("PairingDrift", "fused"), ("Misalignment", "fused"), True),
        (("Misalignment", "fused"), ("PairingDrift", "fused"), False),
        (("EmbeddingDrift", "image"), ("QualityShapeDrift", "image"), True),
        (("EmbeddingDrift", "text"), ("QualityShapeDrift", "image"), False),
        (("QualityShapeDrift", "text"), ("ConfidenceDrift", "fused"), True),
        (("EmbeddingDrift", "fused"), ("CostHigh", "fused"), False),
    ],
)
def test_what_explains_what(cause: tuple[str, str], target: tuple[str, str], held: bool) -> None:
    found = inhibitor(tracked(2, *target), context(tracked(1, *cause), tracked(2, *target)))
    assert (found is not None) is held


def test_no_page_is_ever_held_by_another_alert_and_causes_make_no_circle() -> None:
    assert {"ModalityUnavailable", "StreamSilent"}.isdisjoint(rule.target for rule in INHIBITIONS)
    names = [("ModalityUnavailable", "image"), ("EmbeddingDrift", "image"), ("PairingDrift", "fused")]
    names += [("EmbeddingDrift", "fused"), ("AgreementDrop", "fused"), ("PredictionDrift", "fused")]
    names += [("QualityShapeDrift", "image"), ("Misalignment", "fused"), ("ConfidenceDrift", "fused")]
    everything = [tracked(index, *name) for index, name in enumerate(names)]
    told = [notice.tracked.title for notice in pipeline.run(context(*everything), ()) if not notice.suppressed]
    assert set(told) == {"ModalityUnavailable(image)"}


def test_an_inhibited_alert_keeps_the_reason_and_is_told_once_when_the_cause_is_long_gone() -> None:
    target = tracked(2, "EmbeddingDrift", "fused")
    cause = tracked(1, "EmbeddingDrift", "image")
    told = {(1, FIRING, "log"): SENT}
    first = pipeline.run(context(cause, target, told=told), ())
    assert rows(first) == [(2, FIRING, "log", "inhibited: EmbeddingDrift(image)")]
    told[2, FIRING, "log"] = SUPPRESSED
    assert pipeline.run(context(cause, target, told=told), ()) == ()
    over = replace(cause, alert=replace(cause.alert, state=State.RESOLVED, resolved_at=T0))
    lingers = WINDOW
    assert pipeline.run(context(over, target, told=told, at=T0 + lingers), ()) == ()
    free = pipeline.run(context(over, target, told=told, at=T0 + lingers + HOP), ())
    assert rows(free) == [(2, FIRING, "log", None)]
    told[2, FIRING, "log"] = DUE
    assert pipeline.run(context(over, target, told=told, at=T0 + lingers + 2 * HOP), ()) == ()


def test_a_pending_cause_holds_and_one_that_never_fired_does_not_linger() -> None:
    target = tracked(2, "PairingDrift", "fused")
    assert inhibitor(target, context(tracked(1, "EmbeddingDrift", state=State.PENDING), target)) is not None
    dropped = tracked(1, "EmbeddingDrift", state=State.RESOLVED, resolved_at=T0, fired=False)
    assert inhibitor(target, context(dropped, target)) is None


@pytest.mark.parametrize(
    ("firing", "expected"), [(SENT, None), (DUE, None), (SUPPRESSED, "firing_not_told"), (FAILED, "firing_not_told")]
)
def test_a_resolve_is_told_only_to_whom_the_firing_was(firing: str, expected: str | None) -> None:
    over = tracked(1, "PairingDrift", "fused", State.RESOLVED, resolved_at=T0)
    notices = pipeline.run(context(over, told={(1, FIRING, "log"): firing}), {1})
    assert rows(notices) == [(1, RESOLVED, "log", expected)]


def test_that_it_is_over_is_told_to_who_heard_of_it_though_routes_have_changed_since() -> None:
    over = tracked(1, "PairingDrift", "fused", State.RESOLVED, resolved_at=T0)
    told = {(1, FIRING, "pager"): SENT, (1, FIRING, "gone"): SUPPRESSED}
    notices = pipeline.run(context(over, told=told), {1})
    assert rows(notices) == [(1, RESOLVED, "pager", None), (1, RESOLVED, "log", "firing_not_told")]


def test_an_alert_resolved_earlier_is_not_offered_again() -> None:
    over = tracked(1, "PairingDrift", "fused", State.RESOLVED, resolved_at=T0)
    assert pipeline.run(context(over, told={(1, FIRING, "log"): SENT}), set()) == ()

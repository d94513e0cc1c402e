"""The pipeline: who is told, who is not, and the reason that is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.alerts import pipeline
from monitor.alerts.inhibitions import INHIBITIONS, SAME
from monitor.alerts.routes import Route, parse
from monitor.alerts.rules import RULES
from monitor.alerts.stages import (
    DUE,
    FAILED,
    FIRING,
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
        (("ModalityUnavailable", "image"), ("QualityShapeDrift", "image"), True),
        (("ModalityUnavailable", "image"), ("QualityShapeDrift", "text"), False),
        (("ModalityUnavailable", "text"), ("Misalignment", "fused"), True),
        (("ModalityUnavailable", "text"), ("ContributionDrift", "fused"), True),
        (("ModalityUnavailable", "text"), ("ConfidenceDrift", "fused"), True),
        (("ModalityUnavailable", "text"), ("EstimatedAccuracyLow", "fused"), True),
        (("ModalityUnavailable", "text"), ("GradualDrift", "image"), True),
        (("ModalityUnavailable", "image"), ("GradualUnavailability", "text"), False),
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


@pytest.mark.parametrize(
    ("status", "hours", "acknowledged", "expected"),
    [
        (SENT, 4, False, "repeated"),
        (SENT, 3, False, None),
        (SENT, 4, True, None),
        (FAILED, 4, False, "tried_again"),
        (FAILED, 3, False, None),
        (FAILED, 4, True, None),
        (DUE, 4, False, None),
    ],
)
def test_what_still_fires_is_said_again_after_four_hours_also_where_its_receiver_failed(
    status: str, hours: int, acknowledged: bool, expected: str | None
) -> None:
    page = replace(tracked(1, "StreamSilent", "all"), acknowledged=acknowledged)
    key = (1, FIRING, "log")
    now = T0 + timedelta(hours=hours)
    given = replace(
        context(page, told={key: status}, at=now),
        sent={key: T0} if status == SENT else {},
        failed={key: T0} if status == FAILED else {},
    )
    assert [notice.reason for notice in pipeline.run(given, ())] == ([expected] if expected else [])


def flaps(receiver_heard: bool, severity: str) -> Context:
    """A series that has fired before and fires again while a ticket about its flapping is open."""
    before = tracked(1, "ModalityUnavailable", state=State.RESOLVED, severity=severity, resolved_at=T0)
    again = tracked(2, "ModalityUnavailable", severity=severity)
    ticket = replace(tracked(3, "AlertFlapping"), flaps=again.alert.fingerprint)
    heard = {(1, FIRING, "log"): SENT, (1, FIRING, "pager"): SENT if receiver_heard else SUPPRESSED}
    told = {**heard, (3, FIRING, "log"): SENT}
    return replace(context(before, again, ticket, told=told), sent={key: T0 for key in heard if heard[key] == SENT})


def test_a_series_that_flaps_is_left_to_its_ticket_but_a_first_page_is_never_damped() -> None:
    def told(given: Context) -> dict[str, str | None]:
        return {each.receiver: each.suppressed for each in pipeline.run(given, ()) if each.tracked.alert_id == 2}

    assert told(flaps(True, "page")) == {"pager": "flapping", "log": "flapping"}
    assert told(flaps(False, "page")) == {"pager": None, "log": "flapping"}
    assert told(flaps(False, "ticket")) == {"log": "flapping"}


names = st.sampled_from([(rule.alertname, modality) for rule in RULES for modality in ("image", "text", "fused")])
states = st.sampled_from([State.PENDING, State.FIRING, State.RESOLVED])


@given(st.lists(st.tuples(names, states), max_size=12, unique_by=lambda each: each[0]))
def test_an_alert_is_explained_exactly_where_the_list_says_so(alerts: list[tuple[tuple[str, str], State]]) -> None:
    everything = [
        tracked(index, *name, state=state, resolved_at=T0 if state is State.RESOLVED else None)
        for index, (name, state) in enumerate(alerts)
    ]
    order = [State.FIRING, State.PENDING, State.RESOLVED]
    for target in everything:
        explaining = [
            (order.index(cause.alert.state), cause.alert_id)
            for cause in everything
            for rule in INHIBITIONS
            if (rule.cause, rule.target) == (cause.alertname, target.alertname)
            and (
                rule.modality in ("", target.modality) or (rule.modality == SAME and cause.modality == target.modality)
            )
            and cause.modality != rule.cause_not
        ]
        found = inhibitor(target, context(*everything))
        assert (found.alert_id if found else None) == (min(explaining)[1] if explaining else None)


def test_an_alert_resolved_earlier_is_not_offered_again() -> None:
    over = tracked(1, "PairingDrift", "fused", State.RESOLVED, resolved_at=T0)
    assert pipeline.run(context(over, told={(1, FIRING, "log"): SENT}), set()) == ()

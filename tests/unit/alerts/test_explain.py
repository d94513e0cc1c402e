"""What would stop an alert on its way, for each receiver, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from monitor.alerts.explain import explain
from monitor.alerts.stages import DUE, FAILED, FIRING, SENT, SUPPRESSED, Tracked
from monitor.domain.silence import Kind, Silence
from tests.unit.alerts.test_stages import T0, context, tracked

DRIFT = tracked(2, "EmbeddingDrift", "image")
SILENCE = Silence(3, Kind.SILENCE, {"modality": "image"}, T0, T0 + timedelta(hours=4), "ann", "new camera")


def told(*alerts: Tracked, status: str | None = None, about: Tracked = DRIFT, silenced: bool = False) -> list[object]:
    where = context(about, *alerts, told={} if status is None else {(about.alert_id, FIRING, "log"): status})
    if silenced:
        where = replace(where, silences=(SILENCE,))
    if status == SENT:
        where = replace(where, sent={(about.alert_id, FIRING, "log"): T0})
    return [(one.receiver, one.stage, one.reason) for one in explain(about, where)]


def test_nothing_stops_what_nothing_holds() -> None:
    page = tracked(1, "ModalityUnavailable", severity="page")
    assert told(about=page) == [("pager", None, "it is sent"), ("log", None, "it is sent")]
    [pager, log] = explain(page, context(page))
    assert (pager.route, log.route) == ('severity="page"', "everything")


def test_the_stage_that_stops_it_is_named_with_its_reason() -> None:
    outage = tracked(1, "ModalityUnavailable", severity="page")
    assert told(outage) == [("log", "inhibit", "inhibited: ModalityUnavailable(image)")]
    until = "2026-03-01T04:00+00:00"
    assert told(silenced=True) == [("log", "silence", f"silenced: silence 3 by ann until {until}: new camera")]
    ticket = replace(tracked(9, "AlertFlapping"), flaps=DRIFT.alert.fingerprint)
    assert told(ticket) == [("log", "damp", "flapping")]


def test_what_the_log_holds_already_is_said() -> None:
    stage = "not_yet_notified"
    assert told(status=SENT) == [("log", stage, f"it was told already at {T0.isoformat()}")]
    assert told(status=DUE) == [("log", stage, "it waits to be sent")]
    assert told(status=FAILED) == [("log", stage, "it could not be told")]
    assert told(status=SUPPRESSED) == [("log", None, "it is sent")]


def test_what_is_said_again_is_called_that() -> None:
    where = context(DRIFT, told={(2, FIRING, "log"): SENT}, at=T0 + timedelta(hours=5))
    [one] = explain(DRIFT, replace(where, sent={(2, FIRING, "log"): T0}))
    assert (one.stage, one.reason) == (None, "it is said again")

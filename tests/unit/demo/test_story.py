"""The story's own judgement: what counts as a false alert, as passed, and as a bad message."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.bad_messages import bad_messages
from demo.observe import Told
from demo.results import Results, StepResult
from demo.story import false_alerts
from demo.traffic import JSON
from inference.errors import Refusal
from inference.modalities.base import modalities
from inference.record import Record
from inference.request import RequestParser

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def told(alertname: str, modality: str, after: float) -> Told:
    return Told(alertname, modality, "ticket", T0 + timedelta(seconds=after), None)


def results() -> Results:
    outage = StepResult(1, "outage", T0, T0, "ModalityUnavailable", "page", "image")
    labels = StepResult(4, "labels", T0 + timedelta(seconds=100), T0, "AccuracyDrop", "ticket", "fused")
    return Results([outage, labels])


def test_alerts_that_a_step_injected_are_not_false() -> None:
    expected = [told("ModalityUnavailable", "image", 5), told("AccuracyDrop", "fused", 110)]
    assert false_alerts(results(), [*expected, told("CalibrationDrift", "fused", 111)]) == []


@pytest.mark.parametrize(
    "alert",
    [
        told("ModalityUnavailable", "text", 5),
        told("ModalityUnavailable", "image", -1),
        told("PairingDrift", "fused", 50),
        told("CalibrationDrift", "fused", 50),
    ],
    ids=["another modality", "before its cause", "nobody injected it", "before the labels"],
)
def test_other_alerts_are_false(alert: Told) -> None:
    assert false_alerts(results(), [alert]) == [alert]


def test_a_run_passes_only_if_everything_held() -> None:
    assert not Results().met, "a run without steps shows nothing"
    run = results()
    run.steps[0].expect("holds", True, "yes")
    assert run.met
    run.false_alerts = 1
    assert not run.met
    run.false_alerts = 0
    run.steps[1].expect("does not hold", False, "no")
    assert not run.met


def test_results_are_written_as_json(tmp_path: Path) -> None:
    results().write(tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    step = written["steps"][0]
    assert datetime.fromisoformat(step["injected_at"]) == T0
    assert {"injected_at", "detected_at", "alert", "severity", "modality", "resolved_at"} <= step.keys()
    assert written["false_alerts"] == 0


def test_every_bad_message_is_refused_for_its_own_reason() -> None:
    parser = RequestParser({name: modality.wire for name, modality in modalities().items()})
    for message in bad_messages("run"):
        headers = (("content-type", message.content_type),)
        parsed = parser.parse(Record("t", 0, 0, None, message.value, headers, 0.0, T0))
        assert isinstance(parsed, Refusal), message
        assert parsed.code == message.code
    assert any(message.content_type != JSON for message in bad_messages("run"))

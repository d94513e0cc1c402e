"""The story's own judgement: what counts as a false alert, as passed, and as a program that ended."""

from __future__ import annotations

import hmac
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from demo import receiver
from demo.bad_messages import bad_messages
from demo.observe import Told
from demo.processes import ProcessError, Program
from demo.results import Results, StepResult
from demo.servers import free_port
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


def test_the_receiver_believes_signed_messages_only() -> None:
    body = json.dumps({"alertname": "PairingDrift", "state": "firing", "modality": "fused"}).encode()
    signature = "sha256=" + hmac.new(b"secret", b"123." + body, "sha256").hexdigest()
    with receiver.listen("secret") as listening:
        good = {"X-Fusionwatch-Timestamp": "123", "X-Fusionwatch-Signature": signature}
        assert httpx.post(listening.url, content=body, headers=good).status_code == 204
        for wrong in ({}, {**good, "X-Fusionwatch-Timestamp": "124"}, {**good, "X-Fusionwatch-Signature": "sha256=00"}):
            assert httpx.post(listening.url, content=body, headers=wrong).status_code == 401
        assert listening.refused == 3
        assert [one.body["alertname"] for one in listening.notifications] == ["PairingDrift"]


def program(tmp_path: Path, code: str, port: int | None = None) -> Program:
    url = None if port is None else f"http://127.0.0.1:{port}/readyz"
    return Program("program", (sys.executable, "-c", code), {"TOLD": "from the environment"}, tmp_path / "log", url)


def test_a_program_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    failing = program(tmp_path, "import os, sys; print(os.environ['TOLD']); sys.exit(3)", free_port())
    failing.start()
    with pytest.raises(ProcessError, match=r"(?s)ended with code 3.*from the environment"):
        failing.wait_ready(30)


def test_a_program_that_is_never_ready_is_told_at_the_deadline(tmp_path: Path) -> None:
    sleeping = program(tmp_path, "import time; time.sleep(60)", free_port())
    sleeping.start()
    with pytest.raises(ProcessError, match="not ready within 1 s"):
        sleeping.wait_ready(1)
    sleeping.kill()


def test_stop_lets_a_program_finish_and_kill_does_not(tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "def end(*_): print('finished', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    one = program(tmp_path, code)

    def up(times: int) -> None:
        deadline = time.monotonic() + 30
        while one.log.read_text().count("up") < times:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    one.start()
    up(1)
    one.kill()
    one.check()  # a program that we ended is no failure
    one.start()
    up(2)
    one.stop()
    assert one.log.read_text().split() == ["up", "up", "finished"]

"""What docs/alerts.md says of receivers and routes: its example is accepted, its check of a signature holds."""

from __future__ import annotations

import re
import shlex
import time
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from monitor.channels.base import kinds
from monitor.channels.webhook import WebhookChannel, WebhookOptions
from monitor.domain.clock import SystemClock
from monitor.settings import MonitorSettings
from tests.support.http_stub import answering

SECTION = (
    (Path(__file__).parents[2] / "docs/alerts.md").read_text().split("## Receivers and routes")[1].split("\n## ")[0]
)
SECRET = b"0123456789abcdef"


def block(language: str) -> str:
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    return str(found)


def test_its_example_of_receivers_and_routes_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", "postgresql+psycopg2://nobody@/none")
    for line in shlex.split(block("sh")):
        monkeypatch.setenv(*line.split("=", 1))
    settings = MonitorSettings.from_environment()
    assert {name: settings.options_of(name)[0] for name in settings.receivers} == {
        "pager": "pagerduty",
        "chat": "slack",
    }
    assert [(route.receiver, str(route), route.on) for route in settings.checked_routes] == [
        ("pager", 'severity="page"', True),
        ("chat", 'modality=~"image|text", alertname!="CostHigh"', False),
        ("chat", "everything", False),
    ]


def test_its_table_has_every_channel_with_its_options() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\| ", SECTION, re.MULTILINE))
    named = {name: set(re.findall(r"`(\w+)`", options)) for name, options in rows.items()}
    assert named == {name: set(kind.options.model_fields) - {"timeout_seconds"} for name, kind in kinds().items()}
    assert {name for name, kind in kinds().items() if "timeout_seconds" not in kind.options.model_fields} == {"log"}


def sent() -> tuple[Message, bytes]:
    with answering(204) as stub:
        channel = WebhookChannel(stub.url, SECRET, 20, SystemClock())
        channel.send({"alertname": "PairingDrift", "summary": "größer"}, "key-1")
        channel.close()
    [request] = stub.requests
    return request


def test_its_check_takes_a_message_once_and_no_forged_or_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    receive = names["receive"]
    headers, body = sent()
    seen: set[str] = set()
    assert receive(headers, body, SECRET, seen) == 202
    assert receive(headers, body, SECRET, seen) == 200, "a repeated one"
    assert receive(headers, body + b" ", SECRET, set()) == 401, "another body"
    assert receive(headers, body, b"another secret!!", set()) == 401
    stamp = str(int(headers["X-Fusionwatch-Timestamp"]) + 1)
    for changed in ({"X-Fusionwatch-Timestamp": stamp}, {"Idempotency-Key": "key-2"}):
        assert receive({**dict(headers.items()), **changed}, body, SECRET, seen) == 401, "signed otherwise"
    later = time.time() + 301
    monkeypatch.setattr(time, "time", lambda: later)
    assert receive(headers, body, SECRET, set()) == 401, "more than five minutes old"


def test_a_webhook_needs_a_secret_that_cannot_be_guessed() -> None:
    assert WebhookOptions.model_fields["secret"].metadata[0].min_length == 16

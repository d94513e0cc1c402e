"""Silences and acknowledgements by API, page and command, on a real database."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, insert, select, update
from typer.testing import CliRunner

from migrations.connect import connect
from migrations.schema.monitoring import alerts, audit_log
from monitor import alert_wiring
from monitor.api.access import Access
from monitor.api.app import create_app
from monitor.cli import app
from monitor.domain.clock import SystemClock
from monitor.domain.silence import Draft, Kind
from monitor.storage import silences
from tests.support import seed, tokens
from tests.support.http_stub import answering
from tests.support.monitored import settings

TOKEN = "sixteen characters or more"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ACCESS = tokens.of({"ann": (TOKEN, "silence")})


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = connect(database, application="test")
    yield made
    made.dispose()


@pytest.fixture
def client(engine: Engine) -> TestClient:
    return of(engine, ACCESS)


def of(engine: Engine, access: Access) -> TestClient:
    return TestClient(create_app(engine, model=seed.MODEL, clock=seed.FixedClock(), access=access, **seed.TIMING))


def wanted(**changes: Any) -> dict[str, Any]:
    end = seed.at("16:00").isoformat()
    return {"matchers": {"modality": "image"}, "end": end, "owner": "ann", "reason": "new camera", **changes}


def firing(engine: Engine, silence: int | None = None, state: str = "firing") -> int:
    now = seed.FixedClock().now()
    with engine.begin() as connection:
        made: int = connection.execute(
            insert(alerts)
            .values(
                fingerprint="f" * 64,
                alertname="ModalityUnavailable",
                severity="page",
                modality="image",
                state=state,
                pending_since=now,
                firing_since=now,
                last_window_end=now,
                labels={"model": seed.MODEL, "modality": "image"},
                annotations={},
                silenced_by=silence,
            )
            .returning(alerts.c.alert_id)
        ).scalar_one()
    return made


def actions(engine: Engine) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        rows = connection.execute(select(audit_log.c.action, audit_log.c.actor).order_by(audit_log.c.audit_id))
        return [(row.action, row.actor) for row in rows]


def test_made_listed_ended_and_audited(client: TestClient, engine: Engine) -> None:
    made = client.post("/v1/silences", json=wanted(), headers=BEARER)
    assert made.status_code == 201, made.text
    assert client.get("/v1/silences").json()["items"] == [made.json()]
    path = f"/v1/silences/{made.json()['silence_id']}"
    ending = {"owner": "bob", "reason": "done"}
    ended = client.request("DELETE", path, json=ending, headers=BEARER)
    assert ended.status_code == 200, ended.text
    assert client.get("/v1/silences").json()["items"] == []
    assert client.get("/v1/silences?ended=true").json()["items"] == [ended.json()]
    again = client.request("DELETE", path, json=ending, headers=BEARER)
    assert (again.status_code, again.headers["content-type"]) == (409, "application/problem+json")
    assert "it ended at" in again.json()["detail"]
    assert actions(engine) == [("silence_created", "ann"), ("silence_ended", "ann for bob")]


def test_silences_come_by_pages(client: TestClient) -> None:
    numbers = [client.post("/v1/silences", json=wanted(), headers=BEARER).json()["silence_id"] for _ in range(3)]
    first = client.get("/v1/silences?limit=2").json()
    assert ([each["silence_id"] for each in first["items"]], first["next_cursor"]) == (numbers[:0:-1], numbers[1])
    last = client.get(f"/v1/silences?limit=2&cursor={first['next_cursor']}").json()
    assert ([each["silence_id"] for each in last["items"]], last["next_cursor"]) == (numbers[:1], None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"matchers": {}}, "a silence needs one of alertname"),
        ({"matchers": {"camera": "1"}}, "camera cannot be matched"),
        ({"end": "2036-03-02T12:00:00Z"}, "30 days at most"),
        ({"end": "2026-04-01T12:00:00"}, "needs a time zone"),
        ({"owner": ""}, "body owner"),
        ({"ends": "x"}, "body ends"),
    ],
)
def test_a_wrong_silence_is_refused_with_what_is_wrong(client: TestClient, changes: dict[str, Any], said: str) -> None:
    answer = client.post("/v1/silences", json=wanted(**changes), headers=BEARER)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert said in answer.text
    assert client.get("/v1/silences").json()["items"] == []


def test_only_who_has_the_token_writes(engine: Engine) -> None:
    assert of(engine, Access()).post("/v1/silences", json=wanted()).status_code == 403
    for headers in ({}, {"Authorization": "Bearer another token"}):
        refused = of(engine, ACCESS).post("/v1/silences", json=wanted(), headers=headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert actions(engine) == []


def test_a_firing_alert_is_acknowledged_once(client: TestClient, engine: Engine) -> None:
    path = f"/v1/alerts/{firing(engine)}/acknowledge"
    assert client.post(path, json={"owner": "ann"}, headers=BEARER).json()["alert"] == "ModalityUnavailable(image)"
    again = client.post(path, json={"owner": "bob"}, headers=BEARER)
    assert (again.status_code, "by ann already" in again.text) == (409, True)
    assert client.get("/v1/alerts").json()["items"][0]["acknowledged_by"] == "ann"
    assert actions(engine) == [("alert_acknowledged", "ann")]
    with engine.begin() as connection:
        connection.execute(update(alerts).values(state="resolved"))
    assert "is resolved" in client.post(path, json={"owner": "ann"}, headers=BEARER).text
    assert "no alert 99" in client.post("/v1/alerts/99/acknowledge", json={"owner": "a"}, headers=BEARER).text


def test_the_page_says_until_when_by_whom_and_why(client: TestClient, engine: Engine) -> None:
    made = client.post("/v1/silences", json=wanted(reason="<b>new</b> camera"), headers=BEARER).json()
    firing(engine, made["silence_id"])
    page = client.get("/alerts").text
    assert "by ann: &lt;b&gt;new&lt;/b&gt; camera" in page
    shown = client.get("/v1/alerts").json()["items"][0]["silenced"]
    assert (shown["silence_id"], shown["by"]) == (made["silence_id"], "ann")


def call(database: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from monitor.cli import main; main()", *arguments],
        env={"FUSIONWATCH_DATABASE_URL": database, "USER": "ann", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_silences_lists_and_ends(database: str, engine: Engine) -> None:
    made = call(database, "silence", "add", "modality=image", "--for", "4h", "--reason", "new camera", "--owner", "ann")
    assert made.returncode == 0, made.stderr
    assert "silence 1 holds from" in made.stdout
    assert "modality=image" in call(database, "silence", "list").stdout
    wrong = call(database, "silence", "add", "camera=1", "--for", "31d", "--reason", "x")
    assert (wrong.returncode, "camera cannot be matched" in wrong.stderr) == (1, True)
    assert "is over" in call(database, "silence", "end", "1", "--reason", "done").stdout
    assert "modality=image" not in call(database, "silence", "list").stdout
    assert [action for action, _ in actions(engine)] == ["silence_created", "silence_ended"]


def of_receivers(engine: Engine, **options: str) -> TestClient:
    hook = {"channel": "webhook", "secret": "a long shared secret", **options}
    url = engine.url.render_as_string(hide_password=False)
    receivers = alert_wiring.receivers(settings(url, receivers={"hook": hook, "log": {"channel": "log"}}))
    app = create_app(engine, model=seed.MODEL, access=ACCESS, receivers=receivers, **seed.TIMING)
    return TestClient(app)


def test_a_receiver_is_tested_by_api_with_what_came_of_it(engine: Engine) -> None:
    with answering(204, 500) as stub:
        client = of_receivers(engine, url=stub.url)
        assert client.get("/v1/receivers").json() == ["hook", "log"]
        path = "/v1/receivers/hook/test"
        assert client.post(path, json={}).status_code == 401
        sent = client.post(path, json={"severity": "ticket"}, headers=BEARER).json()
        assert sent == {"receiver": "hook", "outcome": "sent", "reason": ""}
        failed = client.post(path, json={"resolve": True}, headers=BEARER).json()
        assert failed == {"receiver": "hook", "outcome": "retry", "reason": "answered 500"}
    fired, over = (json.loads(body) for _, body in stub.requests)
    assert (fired["alertname"], fired["severity"], fired["state"]) == ("TestAlert", "ticket", "firing")
    assert fired["summary"] == "This is a test of the receiver hook: nothing is wrong"
    assert (over["state"], over["fingerprint"]) == ("resolved", fired["fingerprint"])
    missing = client.post("/v1/receivers/fax/test", json={}, headers=BEARER)
    assert (missing.status_code, missing.json()["detail"]) == (404, "there is no receiver 'fax'; there are hook, log")


def test_the_command_explains_an_alert_and_fires_a_test(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, as starting one takes longer than all the rest."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # the command sets up logging of its own
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("FUSIONWATCH_RECEIVERS", '{"pager": {"channel": "log"}, "log": {"channel": "log"}}')
    routes = [{"matchers": ["severity=page"], "receiver": "pager"}, {"receiver": "log"}]
    monkeypatch.setenv("FUSIONWATCH_ROUTES", json.dumps(routes))
    monkeypatch.setenv("FUSIONWATCH_MODEL", seed.MODEL)

    def ran(*words: str) -> str:
        done = CliRunner().invoke(app, ["alerts", *words])
        return done.output if done.exception is None else f"{type(done.exception).__name__}: {done.exception}"

    free = ran("explain", "--label", "alertname=ModalityUnavailable", "--label", "modality=text")
    assert "no such alert is open" in free
    assert re.search(r'pager +│ severity="page" +│ +│ it is sent', free), free
    firing(engine)
    with engine.begin() as connection:
        now = SystemClock().now()
        draft = Draft(Kind.SILENCE, {"severity": "ticket"}, now, now + timedelta(hours=1), "ann", "new camera")
        silences.create(connection, seed.MODEL, draft, now)
    held = ran("explain", "--label", "alertname=EmbeddingDrift", "--label", "modality=image")
    assert re.search(r"log +│ everything +│ inhibit +│ inhibited: ModalityUnavailable\(image\)", held), held
    quiet = ran("explain", "--label", "alertname=CostHigh", "--label", "modality=fused")
    assert re.search(r"silence +│ silenced: silence \d+ by ann until \S+: new camera", quiet), quiet
    assert "no labels of an alert; alertname, modality" in ran("explain", "--label", "camera=1")
    assert "there is no alert 'Drift'; there are AccuracyDrop" in ran("explain", "--label", "alertname=Drift")
    assert "'modality' is not name=value" in ran("explain", "--label", "modality")
    fired = ran("test-fire", "--receiver", "pager")
    assert fired.endswith("pager: sent\n")
    assert "page firing TestAlert(all): This is a test of the receiver pager" in fired
    assert "there is no receiver 'fax'; there are log, pager" in ran("test-fire", "--receiver", "fax")
    assert "ModalityUnavailable" in ran("list")

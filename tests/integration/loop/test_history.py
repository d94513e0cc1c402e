"""What people see of a retrain and do about one: by API, command and page, from the first finding to the last alert."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, update

from migrations.schema.monitoring import alerts, jobs, model_versions
from migrations.schema.rollouts import rollout_checks
from monitor import cli, loop_wiring, wiring
from monitor.telemetry import Metrics
from tests.support.gated import RESULT
from tests.support.monitored import Stage, log_row, log_rows, settings

TOKEN = "sixteen characters or more"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ASKED = {"owner": "kim", "reason": "the new camera stays"}
LIMITS = {"retrain_min_labels": 100, "retrain_min_labels_per_class": 20, "label_queue_entries": 40}


@pytest.fixture
def client(stage: Stage, database: str) -> TestClient:
    """The API of a model whose image embeddings drift, with an alert about it."""
    stage.register("v1")
    stage.drift()
    now = stage.clock.now()
    with stage.engine.begin() as connection:
        connection.execute(
            insert(alerts).values(
                fingerprint="a" * 64,
                alertname="EmbeddingDrift",
                severity="ticket",
                modality="image",
                state="firing",
                pending_since=now,
                firing_since=now,
                last_window_end=now,
                labels={"model": "fusion", "modality": "image"},
                annotations={"model_version": "v1", "summary": "Image embeddings have drifted."},
            )
        )
    return TestClient(wiring.api(settings(database, api_token=TOKEN, **LIMITS), stage.engine))


@pytest.fixture
def command(database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """The command in this process; what it printed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", database)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["fusionwatch-monitor", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        assert not ended.value.code, told.err
        return told.out

    yield run
    root.handlers[:], root.level = handlers, level


def run(stage: Stage, database: str) -> None:
    for build in (loop_wiring.candidates, loop_wiring.retrain):
        build(settings(database, **LIMITS), stage.engine, Metrics(), stage.clock).run()


STAGES = ["finding", "alert", "labels", "decision", "job", "gate", "promoted", "resolved"]


def change(stage: Stage, table: Any, **values: Any) -> None:
    with stage.engine.begin() as connection:
        connection.execute(update(table).values(**values))


def test_a_retrain_is_told_from_the_first_finding_to_the_last_alert_that_ended(
    stage: Stage, database: str, client: TestClient, command: Any
) -> None:
    moment = stage.clock.now() - timedelta(seconds=1)
    with stage.engine.begin() as connection:
        rows = [log_row(f"q{n}", moment, "v1", "consistent", 0.9) for n in range(200)]
        log_rows(connection, rows)
    run(stage, database)
    queue = client.get("/v1/labels/queue?limit=30").json()
    assert (queue["open"], queue["entries"], queue["labelled"]) == (True, 40, 0)
    rest = client.get(f"/v1/labels/queue?limit=30&cursor={queue['next_cursor']}").json()
    assert [each["place"] for each in queue["items"] + rest["items"]] == list(range(1, 41))
    assert "prediction" not in queue["items"][0], "whoever labels is not led"
    assert json.loads(command("labels", "queue", "--json"))["entries"] == 40
    assert queue["items"][0]["request_id"] in command("labels", "queue")
    (waiting,) = client.get("/v1/chains").json()["items"]
    assert (waiting["job_id"], [step["stage"] for step in waiting["steps"]]) == (None, STAGES[:4])
    assert "0 of 40 labelled" in client.get("/retraining").text
    assert "No retrain now" in client.get("/retraining").text

    stage.label(200, right=0.6)
    command("policy", "approve", "--reason", "the new camera stays")
    run(stage, database)
    assert "the new camera stays" in command("policy", "decisions")
    assert [each["job_id"] for each in client.get("/v1/decisions").json()["items"]] == [1, None]
    stage.register("v2", champion=False)
    change(stage, jobs, state="trained", result=RESULT, started_at=stage.clock.now())
    stage.clock.advance(60)
    run(stage, database)
    change(stage, alerts, state="resolved", resolved_at=stage.clock.now())

    now, told = client.get("/v1/chains").json()["items"]
    assert now["job_id"] is None
    stages = [step["stage"] for step in told["steps"]]
    assert (told["job_id"], told["outcome"], stages) == (1, "promoted", STAGES)
    assert any("approved it until" in detail for step in told["steps"] for detail in step["details"])
    assert json.loads(command("history", "--json"))[1]["steps"][4]["details"] == told["steps"][4]["details"]
    printed = command("history").split("job 1: promoted", 1)[1]
    places = [printed.index(f"Z {stage} ") for stage in STAGES if stage != "gate"]
    assert places == sorted(places)
    (last,) = client.get("/v1/chains?limit=1&cursor=2").json()["items"]
    assert last == told
    loop_wiring.champions(settings(database), stage.engine, stage.clock).roll_back(actor="kim", reason="slow")
    (last,) = client.get("/v1/chains?limit=1&cursor=2").json()["items"]
    assert [step["text"] for step in last["steps"] if step["stage"] == "rolled_back"] == ["v1 by kim"]


def test_people_ask_for_a_retrain_with_the_token_alone_and_once(
    stage: Stage, database: str, client: TestClient, command: Any
) -> None:
    for path in ("retrain", "retrain/approve"):
        assert client.post(f"/v1/{path}", json=ASKED).status_code == 401
        assert client.post(f"/v1/{path}", json={"owner": "kim"}, headers=BEARER).status_code == 422
    made = client.post("/v1/retrain/approve", json=ASKED, headers=BEARER)
    assert (made.status_code, made.json()["approval_id"]) == (201, 1)
    assert client.post("/v1/retrain", json=ASKED, headers=BEARER).json() == {"job_id": 1}
    again = client.post("/v1/retrain", json=ASKED, headers=BEARER)
    assert (again.status_code, "active job" in again.json()["detail"]) == (409, True)
    actions = [
        (each["action"], each["actor"], each["details"]["reason"]) for each in client.get("/v1/history").json()["items"]
    ]
    assert actions == [(name, "api for kim", ASKED["reason"]) for name in ("retrain_requested", "retrain_approved")]
    assert "api for kim asked for it" in command("history")
    change(stage, model_versions, family="observed")
    for path in ("retrain", "retrain/approve"):
        assert "served elsewhere" in client.post(f"/v1/{path}", json=ASKED, headers=BEARER).json()["detail"]
    assert stage.scalar("SELECT count(*) FROM retrain_approvals") == 1


def test_the_stages_of_a_challenger_stand_between_gate_and_promotion(
    stage: Stage, database: str, client: TestClient
) -> None:
    client.post("/v1/retrain", json=ASKED, headers=BEARER)
    stage.register("v2", champion=False)
    change(stage, jobs, state="trained", result=RESULT, created_at=stage.clock.now())
    given = settings(database, rollout_stages=["shadow", "canary"], **LIMITS)
    loop_wiring.candidates(given, stage.engine, Metrics(), stage.clock).run()
    reasons = [{"name": "disagreement", "outcome": "passed", "text": "1% differ"}]
    with stage.engine.begin() as connection:
        for place, outcome in (("shadow", "inconclusive"), ("shadow", "passed"), ("canary", "failed")):
            stage.clock.advance(60)
            connection.execute(
                insert(rollout_checks).values(
                    rollout_id=1,
                    stage=place,
                    percent=10,
                    outcome=outcome,
                    reasons=reasons,
                    checked_at=stage.clock.now(),
                )
            )
    stage.clock.advance(60)
    loop_wiring.rollouts(given, stage.engine, Metrics(), stage.clock).stop(actor="kim", reason="slow")
    told = next(each for each in client.get("/v1/chains").json()["items"] if each["job_id"] == 1)
    stages = [step["stage"] for step in told["steps"]]
    assert stages[-6:] == ["job", "gate", "rollout_started", "shadow", "canary", "rejected"]
    texts = {step["stage"]: (step["text"], step["details"]) for step in told["steps"]}
    assert texts["shadow"] == ("10%: checks 1 passed, 1 inconclusive", ["passed: disagreement: 1% differ"])
    assert texts["rejected"] == ("v2 by kim", ["kim stopped it: slow"])
    times = [step["at"] for step in told["steps"][-4:]]
    assert times == sorted(times)
    assert told["outcome"] == "rejected"

"""Champion, rollouts and baselines by API: what the scope promote lets change, and its audit."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import select

from migrations.schema.monitoring import audit_log
from monitor import wiring
from tests.support.monitored import NORMAL, SLOT, Stage, settings
from tests.support.tokens import bearer

TOKEN = "sixteen characters or more"
PROMOTER = {"ci": {"token": TOKEN, "scopes": ["promote"]}}
WHY = {"reason": "it was seen to be better"}


def api(stage: Stage, database: str, **changes: Any) -> TestClient:
    given = settings(database, api_tokens=PROMOTER, **changes)
    return TestClient(wiring.api(given, stage.engine), headers=bearer(TOKEN))


def test_the_champion_is_promoted_and_rolled_back_unless_a_challenger_is_under_way(stage: Stage, database: str) -> None:
    stage.register("v1")
    stage.register("v2", champion=False)
    client = api(stage, database, rollout_stages=["shadow"], environment="production")

    def post(path: str, **given: str) -> Any:
        answer = client.post(f"/v1/{path}", json={**WHY, **given})
        return answer.json() if answer.is_success else (answer.status_code, answer.json()["detail"])

    status, said = post("champion/promote", version="v3")
    assert (status, "has no version 'v3'; it has v1, v2" in said) == (409, True)
    assert post("champion/rollback")[0] == 409
    assert post("rollouts", version="v2", owner="ann") == {"rollout_id": 1, "version": "v2"}
    status, said = post("champion/promote", version="v2")
    assert (status, "v2 is in shadow" in said) == (409, True)
    assert post("rollouts", version="v2")[0] == 409
    assert post("rollouts/stop") == {"rollout_id": 1, "version": "v2"}
    assert post("rollouts/stop")[0] == 409
    assert post("champion/promote", version="v2") == {"before": "v1", "after": "v2"}
    assert post("champion/rollback") == {"before": "v2", "after": "v1"}
    with stage.engine.connect() as connection:
        rows = connection.execute(select(audit_log.c.action, audit_log.c.actor).order_by(audit_log.c.audit_id))
        told = [tuple(row) for row in rows]
    assert told == [
        ("rollout_started", "ci for ann"),
        ("rejected", "ci"),
        ("promoted", "ci"),
        ("rolled_back", "ci"),
    ]


def test_a_baseline_is_made_of_a_period_pinned_and_unpinned(stage: Stage, database: str) -> None:
    stage.register("v1")
    start = stage.clock.now()
    for _ in range(12):
        stage.slot(NORMAL)
        stage.clock.advance(SLOT)
    client = api(stage, database)
    period = {"start": start.isoformat(), "end": stage.clock.now().isoformat(), **WHY}
    wrong = client.post("/v1/baselines", json={**period, "end": period["start"]})
    assert (wrong.status_code, "that is no period" in wrong.text) == (422, True)
    longer = {**period, "end": "2126-01-01T00:00:00Z"}
    assert client.post("/v1/baselines", json=longer).status_code == 409
    made = client.post("/v1/baselines", json=period)
    assert made.status_code == 201, made.text
    assert (made.json()["number"], made.json()["rows"]["image"]) == (2, 2400)
    pinned = client.post("/v1/baselines/2/pin", json=WHY).json()
    assert (pinned["number"], pinned["pinned"]) == (2, True)
    assert client.post("/v1/baselines/9/pin", json=WHY).status_code == 409
    anybody = TestClient(client.app)
    assert [each["pinned"] for each in anybody.get("/v1/baselines").json()["items"]] == [True, False]
    assert client.post("/v1/baselines/unpin", json=WHY).json()["number"] == 2
    assert client.post("/v1/baselines/unpin", json=WHY).status_code == 409


def test_who_asks_too_often_is_told_how_long_to_wait(stage: Stage, database: str) -> None:
    client = api(stage, database, api_rate=0.01, api_burst=2)
    answers = [client.post("/v1/baselines/unpin", json=WHY) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [409, 409, 429]
    assert 90 <= int(answers[2].headers["retry-after"]) <= 100
    assert answers[2].headers["content-type"] == "application/problem+json"
    anybody = TestClient(client.app)
    assert [anybody.get("/v1/jobs").status_code for _ in range(3)] == [200, 200, 429]
    assert anybody.get("/v1/jobs", headers=bearer("wrong")).status_code == 429, "guessing is slow"
    assert anybody.get("/healthz").status_code == 200

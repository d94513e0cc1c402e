"""Requests and labels by the API: through the gateway, a real broker and a worker, and logged as any other."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, create_engine, select
from typer.testing import CliRunner

from demo import servers
from inference import topics
from inference.cli import app
from migrations.schema.prediction_log import dead_letters, labels, prediction_log
from monitor import wiring
from monitor.client import ApiError, Client
from tests.support.gateways import SECRET, gateway, served
from tests.support.monitored import settings
from tests.support.tokens import bearer
from tests.support.worker import WorkerProcess, in_process, picture, wait_until

TEXT = "a red circle is left of a blue square"
TOKENS = {name: {"token": f"the token named {name}", "scopes": [name]} for name in ("predict", "label", "read")}
IMAGE = picture(3)


@pytest.fixture(scope="module")
def engine(postgres_server: servers.Database) -> Iterator[Engine]:
    made = create_engine(postgres_server.create("gateway_tests", template="template"))
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def worker(engine: Engine, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    url = engine.url.render_as_string(hide_password=False)
    made = WorkerProcess("gateway", url, broker, tmp_path_factory.mktemp("gateway") / "worker.log")
    with in_process(made):
        yield made


@pytest.fixture(scope="module")
def address(worker: WorkerProcess, broker: str) -> Iterator[str]:
    with gateway(broker, worker.topics, gateway_timeout_seconds=30) as (url, _):
        yield url


def api(engine: Engine, address: str, **changes: Any) -> TestClient:
    url = engine.url.render_as_string(hide_password=False)
    changes = {"gateway_url": address, "gateway_secret": SECRET, **changes}
    return TestClient(wiring.api(settings(url, api_tokens=TOKENS, **changes), engine))


@pytest.fixture(scope="module")
def client(engine: Engine, address: str) -> Iterator[TestClient]:
    with api(engine, address) as made:
        yield made


def as_bearer(name: str) -> dict[str, str]:
    return bearer(f"the token named {name}")


def send(client: TestClient, **body: Any) -> httpx.Response:
    response: Any = client.post("/v1/predict", headers=as_bearer("predict"), **body)
    return response  # type: ignore[no-any-return]


def raw(address: str, path: str, body: Any, secret: str = SECRET) -> httpx.Response:
    return httpx.post(f"{address}{path}", json=body, headers=bearer(secret), timeout=60, trust_env=False)


def test_a_request_is_answered_and_logged_and_its_label_kept(client: TestClient, engine: Engine) -> None:
    given = {"image": base64.b64encode(IMAGE).decode(), "text": TEXT, "request_id": "by-json", "source": "camera-7"}
    answer = send(client, json=given)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["request_id"], told["route"], told["degraded"]) == ("by-json", "fused", False)
    assert told["modalities"] == {"image": "present", "text": "present"}
    assert told["prediction"] == max(told["probabilities"], key=told["probabilities"].get)
    same = send(client, data={"text": TEXT}, files={"image": ("x.jpg", IMAGE, "image/jpeg")})
    assert same.status_code == 200, same.text
    assert same.json()["probabilities"] == pytest.approx(told["probabilities"], abs=1e-5)
    alone = send(client, json={"text": TEXT}).json()
    assert (alone["route"], alone["degraded"], alone["modalities"]["image"]) == ("fallback:text", True, "missing")

    ids = {"by-json", same.json()["request_id"], alone["request_id"]}

    def logged() -> dict[str, Any]:
        with engine.connect() as connection:
            rows = connection.execute(select(prediction_log).where(prediction_log.c.request_id.in_(ids)))
            return {row.request_id: row for row in rows}

    wait_until(lambda: set(logged()) == ids, 30, "not every request is in the log")
    assert logged()["by-json"].prediction == told["prediction"]
    label = {"request_id": "by-json", "label": "misleading", "sampling_probability": 0.5}
    sent = client.post("/v1/labels", json=label, headers=as_bearer("label"))
    assert (sent.status_code, sent.json()) == (202, {"request_id": "by-json"})

    def kept() -> Any:
        with engine.connect() as connection:
            return connection.execute(select(labels).where(labels.c.request_id == "by-json")).first()

    row = wait_until(kept, 30, "the label is not kept")
    assert (row.label, row.source, row.sampling_probability) == ("misleading", "human_review", 0.5)


def test_the_client_sends_requests_and_labels_and_reads(engine: Engine, address: str) -> None:
    tokens = {"everything": {"token": "a token with every scope", "scopes": ["read", "predict", "label"]}}
    url = engine.url.render_as_string(hide_password=False)
    given = settings(url, api_tokens=tokens, gateway_url=address, gateway_secret=SECRET, environment="production")
    with served(wiring.api(given, engine)) as place, Client(place, "a token with every scope") as fusion:
        answer = fusion.predict(image=IMAGE, text=TEXT, source="camera-7")
        assert (answer["route"], answer["modalities"]["image"]) == ("fused", "present")
        assert fusion.predict(text=TEXT, request_id="by-client")["request_id"] == "by-client"
        fusion.label(answer["request_id"], "consistent", sampling_probability=1)
        assert fusion.health()["mood"] in ("well", "notice", "problem", "unknown")
        assert (list(fusion.findings(verdict="drift")), list(fusion.alerts())) == ([], [])
        assert [(each["number"], each["used"]) for each in fusion.baselines()] == [(1, True)]
        with pytest.raises(ApiError, match=r"422.*an image or a text") as refused:
            fusion.predict(source="camera-7")
        assert refused.value.status == 422
        with Client(place, "wrong") as stranger, pytest.raises(ApiError, match="401"):
            stranger.health()


def test_what_is_no_request_is_refused_before_it_is_sent(client: TestClient) -> None:
    bodies: tuple[tuple[dict[str, Any], int, str], ...] = (
        ({"json": {}}, 422, "an image or a text"),
        ({"json": {"image": "§"}}, 422, "no base64"),
        ({"json": {"text": "x", "colour": "red"}}, 422, "body colour"),
        ({"json": {"text": "x", "request_id": "a b"}}, 422, "body request_id"),
        ({"content": b"{", "headers": {**as_bearer("predict"), "Content-Type": "application/json"}}, 422, "JSON"),
        ({"content": b"x", "headers": {**as_bearer("predict"), "Content-Type": "text/plain"}}, 415, "multipart"),
        ({"files": {"image": IMAGE, "video": b"x"}}, 422, "body video"),
        ({"content": b"x" * 15_000_001}, 413, "at most 15000000"),
        ({"content": iter([b"x" * 8_000_000] * 2)}, 413, "at most 15000000"),
    )
    for body, status, said in bodies:
        answer = client.post("/v1/predict", **{"headers": as_bearer("predict"), **body})
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    future = {"request_id": "x", "label": "y", "labelled_at": "2126-01-01T00:00:00Z"}
    refused = client.post("/v1/labels", json=future, headers=as_bearer("label"))
    assert (refused.status_code, "labelled_in_future" in refused.text) == (422, True), refused.text
    for path, name in (("predict", "label"), ("predict", "read"), ("labels", "predict")):
        assert client.post(f"/v1/{path}", json={}, headers=as_bearer(name)).status_code == 403


def test_what_the_worker_refuses_is_told_with_its_reason(address: str, engine: Engine) -> None:
    refused = raw(address, "/predict", {"request_id": "odd", "modalities": {"image": {"data": 5}}})
    assert refused.status_code == 422, refused.text

    def reasons() -> Any:
        with engine.connect() as connection:
            return connection.scalars(select(dead_letters.c.error_code)).all()

    wait_until(lambda: reasons() == [refused.json()["code"]], 30, "the dead letter is not counted")
    for body, said in (([], "must be an object"), ({"request_id": 5}, "1-128"), ({"schema_version": 2}, "object of")):
        again = raw(address, "/predict", body)
        assert (again.status_code, said in again.text) == (422, True)


def test_who_lacks_the_secret_is_refused_and_a_gateway_that_is_away_is_told(engine: Engine, address: str) -> None:
    assert raw(address, "/predict", {}, "another secret, as long").status_code == 401
    with api(engine, address, gateway_secret="another secret, as long") as client:
        assert "same FUSIONWATCH_GATEWAY_SECRET" in send(client, json={"text": TEXT}).text
    with api(engine, f"http://127.0.0.1:{servers.free_port()}") as client:
        answer = send(client, json={"text": TEXT})
        assert (answer.status_code, "cannot be reached" in answer.text) == (502, True)
    with api(engine, address, gateway_url=None) as client:
        assert "FUSIONWATCH_GATEWAY_URL is not set" in send(client, json={"text": TEXT}).text


def test_too_many_wait_in_vain_and_a_stop_lets_them_end(engine: Engine, broker: str, worker: WorkerProcess) -> None:
    unread = {**worker.topics, "requests": f"{worker.group}.unread"}
    topics.create_missing({"bootstrap_servers": broker}, {unread["requests"]: 1})
    limits = {"gateway_timeout_seconds": 3, "gateway_max_inflight": 1}
    with gateway(broker, unread, **limits) as (url, program), api(engine, url) as client, ThreadPoolExecutor() as pool:
        first = pool.submit(send, client, json={"text": TEXT, "request_id": "first"})

        def metrics() -> str:
            return httpx.get(f"{url}/metrics", trust_env=False).text

        wait_until(lambda: "fusion_gateway_waiting 1.0" in metrics(), 20, "nothing waits")
        busy = send(client, json={"text": TEXT})
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
        assert send(client, json={"text": TEXT, "request_id": "first"}).status_code == 409
        assert program.server is not None
        program.server.should_exit = True
        late = first.result(timeout=30)
        assert (late.status_code, "no answer within 3 s to first" in late.text) == (504, True)


def test_the_gateway_needs_a_secret_and_its_topics(
    broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSIONWATCH_KAFKA_BOOTSTRAP_SERVERS", broker)
    refused = CliRunner().invoke(app, ["gateway"])
    assert (refused.exit_code, "FUSIONWATCH_GATEWAY_SECRET is not set" in refused.output) == (2, True)
    monkeypatch.setenv("FUSIONWATCH_GATEWAY_SECRET", SECRET)
    monkeypatch.setenv("FUSIONWATCH_TOPIC_PREDICTIONS", "there.is.no.such.topic")
    refused = CliRunner().invoke(app, ["gateway"])
    assert (refused.exit_code, "there.is.no.such.topic" in refused.output) == (1, True), refused.output

"""What holds of every endpoint: empty databases, errors, health, the OpenAPI document."""

from __future__ import annotations

from typing import cast

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from pydantic import TypeAdapter
from sqlalchemy import Engine

from migrations.connect import MINIMUM_REVISION, connect
from tests.integration.api.served import client_of, get

ENDPOINTS = (
    "overview",
    "series",
    "traffic",
    "findings",
    "alerts",
    "baselines",
    "promises",
    "slos",
    "jobs",
    "decisions",
    "labels/queue",
    "chains",
    "windows",
    "champion",
    "rollouts",
    "history",
    "calibration",
    "dead-letters",
    "reports",
)


EMPTY_PAGES = {
    "/": "No model named “fusion” answers yet.",
    "/modalities": "No modality is known.",
    "/drift": "No check has run lately.",
    "/calibration": "No labels for the version that answers.",
    "/alerts": "No alert is open.",
    "/retraining": "No retrain job yet.",
    "/rollouts": "No challenger is on its way.",
    "/refused": "No message was refused in the last 24 h.",
    "/history": "Nothing in the history.",
    "/sign-in": "There is nothing to sign in with",
}


def test_an_empty_database_answers_everywhere(empty: Engine) -> None:
    client = client_of(empty)
    for name in ENDPOINTS:
        get(client, f"/v1/{name}")
    for path, said in EMPTY_PAGES.items():
        page = client.get(path)
        assert page.status_code == 200, path
        assert said in page.text
    assert get(client, "/v1/calibration")["verdict"] == "no_data"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/series?minutes=0", 422),
        ("/v1/series?minutes=10081", 422),
        ("/v1/series?detector=a%27%3B--", 422),
        ("/v1/findings?limit=201", 422),
        ("/v1/findings?cursor=99999999999999999999", 422),
        ("/v1/findings?verdict=fine", 422),
        ("/v1/findings/0", 422),
        ("/v1/findings/1", 404),
        ("/v1/alerts?state=odd", 422),
        ("/v1/reports/7", 404),
        ("/v1/reports?cadence=hourly", 422),
        ("/reports/7/summary.html", 404),
        ("/reports/7/..%2Fsecret", 404),
        ("/reports/7/secret.py", 422),
        ("/v1/nothing", 404),
    ],
)
def test_errors_are_problems(empty: Engine, path: str, status: int) -> None:
    response = client_of(empty).get(path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == status
    assert told["title"]
    if status == 422:
        assert told["errors"]


def test_writing_methods_are_refused(empty: Engine) -> None:
    response = client_of(empty).post("/v1/overview")
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"


def test_a_database_that_is_away_is_503_not_ready_but_alive() -> None:
    gone = connect("postgresql+psycopg2://nobody@/none?host=/nonexistent", application="test")
    client = client_of(gone)
    for path in ("/v1/overview", "/readyz", "/"):
        response = client.get(path)
        assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
        assert "/nonexistent" not in response.text
    assert client.get("/healthz").status_code == 200


def test_health_and_metrics(client: TestClient) -> None:
    assert MINIMUM_REVISION in get(client, "/readyz")["detail"]
    get(client, "/v1/findings/1")
    metrics = client.get("/metrics").text
    assert (
        'fusion_http_request_duration_seconds_count{method="GET",route="/v1/findings/{finding_id}",status="200"} 1.0'
        in metrics
    )
    assert "fusion_build_info" in metrics


def test_openapi_describes_every_endpoint_with_an_example_that_fits(client: TestClient) -> None:
    described = get(client, "/v1/openapi.json")["paths"]
    routes = list(iter_route_contexts(cast(FastAPI, client.app).routes))
    shown = [each for each in routes if (each.path or "").startswith("/v1/") and each.path != "/v1/openapi.json"]
    assert {each.path for each in shown} == {path for path in described if path.startswith("/v1/")}
    assert {route.path for route in shown} >= {f"/v1/{name}" for name in ENDPOINTS}
    for route in [each for each in shown if "GET" in (each.methods or ())]:
        given = route.responses[200]["content"]["application/json"]["example"]
        assert (
            TypeAdapter(route.response_model).dump_python(
                TypeAdapter(route.response_model).validate_python(given), mode="json"
            )
            == given
        )
        answers = described[str(route.path)]["get"]["responses"]
        assert answers["200"]["content"]["application/json"]["example"]
        assert "application/problem+json" in answers["422"]["content"]

"""Who may call: each endpoint takes its own scope, and in production nothing is read without a token."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from migrations.schema.monitoring import audit_log
from monitor.api.access import Access
from monitor.domain.access import Scope
from tests.integration.api.served import client_of
from tests.support import seed, tokens

TEXTS = {scope: f"the token with the scope {scope}" for scope in Scope}
EACH = {str(scope): (text, str(scope)) for scope, text in TEXTS.items()}
WANTED = {"matchers": {"modality": "image"}, "end": seed.at("16:00").isoformat(), "reason": "new camera"}
FREE = {"/healthz", "/readyz"}


def production(engine: Engine) -> TestClient:
    return client_of(engine, tokens.of(EACH, open_reads=False))


def operations(client: TestClient) -> list[tuple[str, str, dict[str, Any]]]:
    described = client.get("/v1/openapi.json").json()["paths"]
    return [(path, method, told) for path, methods in described.items() for method, told in methods.items()]


def scope_of(told: dict[str, Any]) -> str:
    """The one scope that an operation's security names, alike for both ways to carry a token."""
    assert [set(each) for each in told["security"]] == [{"token"}, {"password"}]
    ((scope,), same) = (each for way in told["security"] for each in way.values())
    assert same == [scope]
    return str(scope)


def test_every_endpoint_takes_its_scope_and_no_other(empty: Engine) -> None:
    client = production(empty)
    seen = set()
    for path, method, told in operations(client):
        if path in FREE:
            continue
        wanted = scope_of(told)
        seen.add(wanted)
        url = path.replace("{", "").replace("}", "")
        assert (wanted == Scope.READ) == (method == "get"), f"{method} {path}"
        assert client.request(method, url, json={}).status_code == 401, f"{method} {path}"
        for scope, text in TEXTS.items():
            answer = client.request(method, url, json={}, headers=tokens.bearer(text))
            assert (answer.status_code == 403) == (scope != wanted), f"{method} {path} with {scope}: {answer.text}"
    assert seen >= {Scope.READ, Scope.SILENCE, Scope.RETRAIN}


def test_in_production_a_browser_is_led_to_the_sign_in(empty: Engine) -> None:
    client = production(empty)
    led = client.get("/drift", headers={"Accept": "text/html"}, follow_redirects=False)
    assert (led.status_code, led.headers["location"]) == (303, "/sign-in?next=/drift")
    assert client.get("/", auth=("anyone", TEXTS[Scope.READ])).status_code == 200
    for path in ("/", "/v1/overview"):
        refused = client.get(path)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    for path in ("/healthz", "/readyz", "/metrics", "/v1/openapi.json", "/static/status.css", "/sign-in"):
        assert client.get(path).status_code == 200, path


def test_another_sites_page_cannot_write_with_the_browsers_password(empty: Engine) -> None:
    client = production(empty)
    login = ("anyone", TEXTS[Scope.SILENCE])
    foreign = client.post("/v1/silences", json=WANTED, auth=login, headers={"Origin": "https://elsewhere.example"})
    assert (foreign.status_code, "another origin" in foreign.text) == (403, True)
    own = client.post("/v1/silences", json=WANTED, auth=login, headers={"Origin": "http://testserver"})
    assert own.status_code == 201, own.text


def test_the_audit_log_names_the_token(empty: Engine) -> None:
    client = production(empty)
    for owner in (None, "ann"):
        made = client.post("/v1/silences", json={**WANTED, "owner": owner}, headers=tokens.bearer(TEXTS[Scope.SILENCE]))
        assert made.json()["owner"] == (owner or "silence"), made.text
    with empty.connect() as connection:
        actors = connection.scalars(select(audit_log.c.actor).order_by(audit_log.c.audit_id)).all()
    assert actors == ["silence", "silence for ann"]


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic", "Basic !", "Basic Og==", "Digest x", "Bearer \xff", "bearer wrong"]
)
def test_what_is_no_token_is_refused(empty: Engine, header: str) -> None:
    answer = production(empty).get("/v1/overview", headers={b"Authorization": header.encode("latin-1")})
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")


def test_in_development_reading_is_free_and_a_wrong_token_is_not(empty: Engine) -> None:
    client = client_of(empty, Access())
    assert client.get("/v1/overview").status_code == 200
    assert client.get("/v1/overview", headers=tokens.bearer("wrong")).status_code == 401
    refused = client.post("/v1/silences", json=WANTED)
    assert (refused.status_code, "no token is set" in refused.text) == (403, True)
    given = base64.b64encode(f"x:{TEXTS[Scope.READ]}".encode()).decode()
    with_tokens = client_of(empty, tokens.of(EACH))
    assert with_tokens.get("/v1/overview", headers={"Authorization": f"Basic {given}"}).status_code == 200
    assert with_tokens.post("/v1/silences", json=WANTED).status_code == 401

"""Texts and times that a database cannot hold, and text that no answer can hold, are refused with what is wrong."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Engine

from monitor.domain.access import Scope
from tests.integration.api.served import client_of
from tests.support import tokens

TOKEN = "a token with every scope"
WHY = {"reason": "r"}
SILENCE = {"matchers": {"modality": "image"}, "end": "2026-03-02T13:00:00Z", **WHY}
PERIOD = {"start": "2026-03-02T11:30:00Z", "end": "2026-03-02T12:00:00Z", **WHY}
NUL, SURROGATE = "a\0b", "\ud800"
# PostgreSQL takes no such offset; in UTC the others are outside of the years that there are, or nothing can be added.
FAR = (
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "0001-01-01T00:00:00Z",
)


def refused(engine: Engine, asked: list[tuple[str, str, Any]]) -> None:
    access = tokens.of({"tester": (TOKEN, " ".join(Scope))}, open_reads=False)
    client = client_of(engine, access)
    client.headers.update(tokens.bearer(TOKEN))
    for method, path, body in asked:
        given: dict[str, Any] = (
            {"content": json.dumps(body), "headers": {"content-type": "application/json"}} if body else {}
        )
        answer = client.request(method, path, **given)
        assert answer.status_code == 422, (method, path, body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    # what was refused left nothing that cannot be read again
    assert client.get("/v1/silences?ended=true").json()["items"] == []


def test_text_without_a_place_in_a_database_or_an_answer(engine: Engine) -> None:
    asked: list[tuple[str, str, Any]] = []
    for odd in (NUL, SURROGATE):
        asked += [
            ("POST", "/v1/silences", {**SILENCE, "matchers": {"modality": odd}}),
            ("POST", "/v1/silences", {**SILENCE, "matchers": {odd: "image"}}),
            ("POST", "/v1/silences", {**SILENCE, "reason": odd}),
            ("POST", "/v1/silences", {**SILENCE, "owner": odd}),
            ("POST", "/v1/silences", {**SILENCE, odd: "not a field"}),
            ("DELETE", "/v1/silences/1", {"reason": odd}),
            ("POST", "/v1/alerts/2/acknowledge", {"owner": odd}),
            ("POST", "/v1/champion/promote", {**WHY, "version": odd}),
            ("POST", "/v1/baselines/1/pin", {"reason": odd}),
            ("POST", "/v1/jobs/3/cancel", {"reason": odd}),
            ("POST", "/v1/labels", {"request_id": "r", "label": odd}),
        ]
    refused(engine, asked)


def test_times_far_off(engine: Engine) -> None:
    asked: list[tuple[str, str, Any]] = [("GET", f"/series?until={at.replace('+', '%2B')}", None) for at in FAR]
    for at in FAR:
        asked += [
            ("POST", "/v1/silences", {**SILENCE, "end": at}),
            ("POST", "/v1/silences", {**SILENCE, "start": at}),
            ("POST", "/v1/baselines", {**PERIOD, "start": at, "force": True}),
            ("POST", "/v1/baselines", {**PERIOD, "end": at, "force": True}),
            ("POST", "/v1/labels", {"request_id": "r", "label": "a", "labelled_at": at}),
        ]
    refused(engine, asked)


def test_an_offset_that_only_the_database_would_not_take_is_taken(engine: Engine) -> None:
    client = client_of(engine, tokens.of({"tester": (TOKEN, "read silence")}))
    client.headers.update(tokens.bearer(TOKEN))
    made = client.post("/v1/silences", json={**SILENCE, "end": "2026-03-03T12:59:00+23:59"})
    assert (made.status_code, made.json()["end"]) == (201, "2026-03-02T13:00:00Z")

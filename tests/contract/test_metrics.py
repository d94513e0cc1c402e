"""Metric names are a contract with dashboards and alerts: documented in one place, and used by their right names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from inference.gateway import GatewayMetrics
from inference.gpu import GpuCollector
from inference.telemetry import Metrics as WorkerMetrics
from monitor.telemetry import Metrics as MonitorMetrics
from tests.support.grafana import PROMETHEUS, queries

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "dashboards/metrics.md"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def worker() -> CollectorRegistry:
    registry = CollectorRegistry()
    WorkerMetrics(registry, version="1", revision="r", dollars_per_hour=1.0)
    registry.register(GpuCollector())
    return registry


def gateway() -> CollectorRegistry:
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    return registry


def monitor() -> CollectorRegistry:
    return MonitorMetrics().registry


def families(registry: CollectorRegistry) -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """Each family of the program's own, with its label names; the process's own figures are the library's."""
    for collector in list(registry._collector_to_names):
        described: Any = collector
        if hasattr(described, "describe"):
            names: tuple[str, ...] = getattr(described, "label_names", getattr(described, "_labelnames", ()))
            for family in described.describe():
                yield family, names


def rows(registry: CollectorRegistry) -> list[str]:
    """The table as it must be written: name as it is queried, type, labels, meaning."""
    found = []
    for family, labels in families(registry):
        name = family.name + ("_total" if family.type == "counter" else "")
        named = ", ".join(f"`{label}`" for label in labels) or "-"
        found.append(f"| `{name}` | {family.type} | {named} | {family.documentation} |")
    return sorted(found)


def documented(heading: str) -> list[str]:
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| `fusion_")]


@pytest.mark.parametrize(
    ("heading", "registry"), [("Worker", worker()), ("Gateway", gateway()), ("Monitor", monitor())]
)
def test_every_metric_is_documented_as_it_is(heading: str, registry: CollectorRegistry) -> None:
    expected = rows(registry)
    assert expected
    assert documented(heading) == expected, "the table must read:\n" + "\n".join(expected)


def series() -> set[str]:
    """Every name that can stand in a query."""
    return {
        family.name + suffix
        for registry in (worker(), gateway(), monitor())
        for family, _ in families(registry)
        for suffix in SUFFIXES[family.type]
    }


def expressions() -> list[tuple[str, str]]:
    found = []
    for path in sorted((ROOT / "dashboards/grafana/dashboards").glob("*.json")):
        found += [(query.title, query.text) for query in queries(json.loads(path.read_text()), PROMETHEUS)]
    rules = yaml.safe_load((ROOT / "dashboards/prometheus/rules.yml").read_text())
    return found + [(rule.get("alert") or rule["record"], rule["expr"]) for g in rules["groups"] for rule in g["rules"]]


@pytest.mark.parametrize(("title", "expression"), expressions())
def test_queries_use_names_that_exist(title: str, expression: str) -> None:
    recorded = {name for name, _ in expressions()}
    named = set(re.findall(r"\bfusion[_:][a-z0-9_:]+", expression))
    assert named <= series() | recorded, title
    assert named or re.search(r"\b(up|ALERTS)\{", expression)


@pytest.mark.parametrize(("title", "expression"), expressions())
def test_edges_in_queries_are_edges_of_the_histogram(title: str, expression: str) -> None:
    """A bucket that does not exist matches nothing, and the share within it would silently be no share at all."""
    metrics = WorkerMetrics(CollectorRegistry(), version="1", revision="r")
    for histogram in (metrics.fusion, metrics.end_to_end):
        histogram.labels("v").observe(0.0)
    for name, edge in re.findall(r'(fusion_\w+)_bucket\{[^}]*le="([^"]+)"', expression):
        assert metrics.registry.get_sample_value(f"{name}_bucket", {"le": edge, "model_version": "v"}) == 1, title

"""Prometheus' and Alertmanager's own tools accept the configuration, and the rules say what they should."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.grafana import queries

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "dashboards/prometheus"


def tool(name: str, *arguments: str | Path) -> str:
    found = shutil.which(name)
    if not found:
        pytest.fail(f"{name} is missing: apt-get install prometheus prometheus-alertmanager")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_configuration_and_rules() -> None:
    assert "15 rules found" in tool("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


def test_rules_fire_when_they_should() -> None:
    tool("promtool", "test", "rules", Path(__file__).parent / "rules_test.yml")


def test_dashboard_expressions_parse(tmp_path: Path) -> None:
    dashboard = json.loads((ROOT / "dashboards/grafana/dashboards/model.json").read_text())
    expressions = [expression for _, _, expression in queries(dashboard, "prometheus")]
    assert len(expressions) > 5
    rules = [{"record": f"checked:{i}", "expr": expression} for i, expression in enumerate(expressions)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    tool("promtool", "check", "rules", path)


def test_alertmanager_accepts_its_configuration(tmp_path: Path) -> None:
    """Debian's release is older than `url_file` of a webhook (0.26): the address stands in for its file."""
    path = tmp_path / "alertmanager.yml"
    given = (ROOT / "dashboards/alertmanager/alertmanager.yml").read_text()
    path.write_text(given.replace("url_file: /run/secrets/alertmanager_webhook_url", "url: http://on-call.test/"))
    assert "url_file" not in path.read_text()
    assert "1 receivers" in tool("amtool", "check-config", path)
    routed = tool("amtool", "config", "routes", "test", f"--config.file={path}", "severity=page", "alertname=NoLeader")
    assert routed.strip() == "on-call"

"""Prometheus' and Alertmanager's own tools accept the configuration, and the rules say what they should."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "dashboards/prometheus"
RULES_TESTS = sorted(Path(__file__).parent.glob("rules*_test.yml"))


def tool(name: str, *arguments: str | Path) -> str:
    found = shutil.which(name)
    if not found:
        pytest.fail(f"{name} is missing: apt-get install prometheus prometheus-alertmanager")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_configuration_and_rules() -> None:
    assert "20 rules found" in tool("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


def test_rules_fire_when_they_should() -> None:
    tool("promtool", "test", "rules", *RULES_TESTS)


def test_every_rule_has_a_test() -> None:
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    names = {rule.get("alert") or rule["record"] for group in rules["groups"] for rule in group["rules"]}
    tested = [test for path in RULES_TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    fired = {one["alertname"] for test in tested for one in test.get("alert_rule_test", ()) if one["exp_alerts"]}
    assert names == fired | {one["expr"] for test in tested for one in test.get("promql_expr_test", ())}


def test_alertmanager_accepts_its_configuration(tmp_path: Path) -> None:
    """Debian's release is older than `url_file` of a webhook (0.26): the address stands in for its file."""
    path = tmp_path / "alertmanager.yml"
    given = (ROOT / "dashboards/alertmanager/alertmanager.yml").read_text()
    path.write_text(given.replace("url_file: /run/secrets/alertmanager_webhook_url", "url: http://on-call.test/"))
    assert "url_file" not in path.read_text()
    assert "1 receivers" in tool("amtool", "check-config", path)
    routed = tool("amtool", "config", "routes", "test", f"--config.file={path}", "severity=page", "alertname=NoLeader")
    assert routed.strip() == "on-call"

"""Every PromQL query of the dashboards on a real Prometheus, with its recording rules, over made-up series."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.servers import free_port
from monitor.dashboards.catalogue import SHIPPED, dashboards
from tests.support.grafana import PROMETHEUS, expand, queries
from tests.support.worker import wait_until

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]
STEP = 15
MINUTES = 90
VERSION = "fusion-1.2"
EDGES = (0.05, 0.1, 0.2, 0.3)
# Of 80 events between two scrapes so many are at most as long as each edge: half within 0.1 s, 19 in 20 within 0.2 s.
WITHIN = (20, 40, 76, 80)

COUNTERS = {
    'fusion_requests_total{outcome="ok",model_version="fusion-1.2"}': 60,
    'fusion_requests_total{outcome="model_error",model_version="fusion-1.2"}': 20,
    'fusion_dlq_records_total{reason="bad_json"}': 20,
    'fusion_inference_cost_dollars_total{model_version="fusion-1.2"}': 0.015625,
    "fusion_batch_size_sum": 60,
    "fusion_batch_size_count": 20,
}
GAUGES = {
    'fusion_consumer_lag_messages{topic="r",partition="0"}': 1200.0,
    'fusion_consumer_lag_messages{topic="r",partition="1"}': 300.0,
    'fusion_slo_burn_rate{slo="agreement",window="1h"}': 2.5,
    'fusion_slo_burn_rate{slo="agreement",window="3d"}': 1.5,
    'fusion_gpu_utilization_ratio{instance="w",device="0"}': 0.75,
    'fusion_gpu_memory_bytes{instance="w",device="0"}': 1024.0,
    'ALERTS{alertname="WorkerDown",severity="page",alertstate="firing",instance="w"}': 1.0,
    'ALERTS{alertname="ApiDown",severity="ticket",alertstate="pending"}': 1.0,
}
HISTOGRAMS = {
    "fusion_end_to_end_duration_seconds": 'model_version="fusion-1.2"',
    "fusion_fusion_duration_seconds": 'model_version="fusion-1.2"',
    "fusion_preprocess_duration_seconds": 'modality="image"',
    "fusion_encode_duration_seconds": 'modality="all"',
    "fusion_batch_wait_seconds": "",
    "fusion_db_transaction_duration_seconds": 'operation="predictions"',
    "fusion_batch_size": "",
}
# By panel and legend what each series must be, as the figures above make it.
P50, P95, P99 = 0.1, 0.2, 0.28
EXPECTED: dict[tuple[str, str], dict[str, float]] = {
    ("executive", "Cost"): {"a day": 0.015625 / STEP * 86400},
    ("on-call", "Requests"): {"all": 80 / STEP},
    ("on-call", "Errors"): {"errors": 0.25, "refused": 0.2},
    ("on-call", "95% are answered within"): {"p95": P95},
    ("on-call", "Messages waiting"): {"lag": 1500, "r[0]": 1200, "r[1]": 300},
    ("on-call", "Alerts about the service"): {"WorkerDown page": 1},
    ("on-call", "Burn rates"): {"agreement over 1h": 2.5},
    ("on-call", "Requests by outcome"): {"ok": 60 / STEP, "model_error": 20 / STEP},
    ("on-call", "Time to answer"): {"p50": P50, "p95": P95, "p99": P99},
    ("debug", "Decoding and encoding"): {"decode image": P95, "encode all": P95},
    ("debug", "Fusion"): {VERSION: P95},
    ("debug", "Waiting and writing"): {"wait for a batch": P95, "write predictions": P95},
    ("debug", "Batch sizes"): {"mean": 3, "p95": P95},
    ("debug", "GPU in use"): {"w 0": 0.75},
    ("debug", "GPU memory"): {"w 0": 1024},
    **{(slug, "Deploys"): {"2 r": 1} for slug in ("executive", "on-call", "debug")},
}


def openmetrics(now: int) -> str:
    """Samples of every series each STEP seconds of the MINUTES up to now."""
    times = range(now - MINUTES * 60, now + 1, STEP)
    lines = []
    for metric, growth in COUNTERS.items():
        lines += [f"{metric} {growth * n} {at}" for n, at in enumerate(times)]
    for metric, value in GAUGES.items():
        lines += [f"{metric} {value} {at}" for at in times]
    for metric, labels in HISTOGRAMS.items():
        for edge, within in (*zip(EDGES, WITHIN, strict=True), ("+Inf", 80)):
            of = ",".join(filter(None, (labels, f'le="{edge}"')))
            lines += [f"{metric}_bucket{{{of}}} {within * n} {at}" for n, at in enumerate(times)]
    for version, since in (("1", times[0]), ("2", now - 60)):
        lines += [f'fusion_build_info{{version="{version}",revision="r"}} 1 {at}' for at in times if at >= since]
    return "\n".join([*lines, "# EOF", ""])


def ask(url: str, path: str, **given: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(given)}", timeout=10) as answer:
        return json.load(answer)["data"]["result"]


@dataclass(frozen=True)
class Running:
    """A Prometheus, and the time up to which it has samples."""

    url: str
    now: int


@contextmanager
def started(folder: Path) -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    options = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with (folder / "log").open("a") as log:
        server = subprocess.Popen(["prometheus", *options, f"--web.listen-address={address}"], stderr=log)
    try:
        url = f"http://{address}"
        wait_until(lambda: answers(url), 60, f"Prometheus does not answer: {folder}/log")
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


def answers(url: str) -> bool:
    try:
        return bool(ask(url, "query", query="vector(1)"))
    except OSError:
        return False


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A Prometheus with the series above, and what the shipped rules record of them."""
    for name in ("prometheus", "promtool"):
        if not shutil.which(name):
            pytest.fail(f"{name} is missing: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    now = int(time.time()) // STEP * STEP
    (folder / "samples").write_text(openmetrics(now))
    (folder / "prometheus.yml").write_text("{}")
    make_blocks("openmetrics", folder / "samples", folder / "data")
    with started(folder) as url:
        period = (f"--start={now - 60}", f"--end={now}", f"--eval-interval={STEP}s", f"--output-dir={folder}/data")
        make_blocks("rules", f"--url={url}", *period, ROOT / "dashboards/prometheus/rules.yml")
    with started(folder) as url:  # which finds what was recorded
        yield Running(url, now)


def make_blocks(*arguments: str | Path) -> None:
    command = ["promtool", "tsdb", "create-blocks-from", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def shown(legend: str, labels: dict[str, str]) -> str:
    """A series' name: its legend with the labels' values, or, without a legend, those values."""
    if not legend:
        return " ".join(value for _, value in sorted(labels.items()))
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)


def asked() -> dict[tuple[str, str], list[tuple[str, str]]]:
    """By dashboard and title, the expanded expressions with their legends."""
    values = {"model": "fusion", "version": [VERSION, "another"], "modality": ["image", "text"]}
    now = datetime.now(UTC)
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for slug, dashboard in dashboards(SHIPPED).items():
        legends = {
            target["expr"]: target["legendFormat"]
            for panel in (*dashboard["panels"], *dashboard["annotations"]["list"])
            for target in panel.get("targets", [panel.get("target")])
            if target and "expr" in target
        }
        for query in queries(dashboard, PROMETHEUS):
            expr = expand(query.text, now, now, interval_seconds=STEP, variables=values)
            found.setdefault((slug, query.title), []).append((expr, legends[query.text]))
    return found


def test_every_query_says_what_the_series_say(prometheus: Running) -> None:
    expressions = asked()
    assert expressions.keys() == EXPECTED.keys()
    for key, pairs in expressions.items():
        found = {}
        for expr, legend in pairs:
            for series in ask(prometheus.url, "query", query=expr, time=str(prometheus.now)):
                labels = {name: value for name, value in series["metric"].items() if name != "__name__"}
                found[shown(legend, labels)] = float(series["value"][1])
        assert found == pytest.approx(EXPECTED[key], rel=1e-3), key


def test_over_a_time_without_samples_nothing_is_said_and_nothing_fails(prometheus: Running) -> None:
    for back, empty in ((0, False), (7 * 86400, True)):
        end = prometheus.now - back
        for pairs in asked().values():
            for expr, _ in pairs:
                given = {"query": expr, "start": str(end - 600), "end": str(end), "step": "15"}
                found = ask(prometheus.url, "query_range", **given)
                assert (found == []) is empty, expr
                times = [[float(at) for at, _ in series["values"]] for series in found]
                assert times == [sorted(each) for each in times]

"""Prometheus's own linter reads the /metrics of a worker and of a monitor that have done some work."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from demo.servers import free_port
from inference.gpu import GpuCollector
from inference.telemetry import Metrics as WorkerMetrics
from monitor.telemetry import Metrics as MonitorMetrics
from tests.integration.loop.test_programs import COMMAND, environment, get
from tests.support.gpu import Driver
from tests.support.worker import WorkerProcess, producer, request, running, wait_until

pytestmark = pytest.mark.servers
# A number of daily partitions: a count of days, and in no other unit. The linter takes it for a duration.
COUNT_OF_DAYS = 'fusion_log_partition_days_ahead use base unit "seconds" instead of "days"'


def lint(page: str) -> set[str]:
    """The linter's complaints. It fails where the page cannot be read at all, a metric given twice for one."""
    found = shutil.which("promtool")
    if not found:
        pytest.fail("promtool is missing: apt-get install prometheus")
    done = subprocess.run([found, "check", "metrics"], input=page, capture_output=True, text=True, timeout=60)
    told = set((done.stdout + done.stderr).split("\n")) - {""}
    assert bool(told) == bool(done.returncode)
    return told


def families(page: str) -> set[str]:
    return {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")}


def with_samples(page: str) -> set[str]:
    return {line.split("{")[0].split(" ")[0] for line in page.splitlines() if line and not line.startswith("#")}


def test_the_linter_complains_where_it_should() -> None:
    assert lint("# HELP a_total x\n# TYPE a_total gauge\na_total 1\n")
    assert not lint("# HELP a_ratio x\n# TYPE a_ratio gauge\na_ratio 1\n")


def test_a_workers_page_is_as_prometheus_wants_it(database: str, broker: str, tmp_path: Path) -> None:
    worker = WorkerProcess("lint", database, broker, tmp_path / "log", {"COST_PER_HOUR": "1.5"})
    with running(worker), producer(broker) as send:
        send(worker.topics["requests"], request("good"))
        send(worker.topics["requests"], b"not json")
        label = {"request_id": "good", "label": "x", "labelled_at": "2026-01-01T00:00:00Z", "source": "user"}
        send(worker.topics["labels"], {"schema_version": 1, **label})
        wanted = {
            "fusion_requests_total",
            "fusion_modality_events_total",
            "fusion_dlq_records_total",
            "fusion_labels_total",
            "fusion_consumer_lag_messages",
            "fusion_db_transaction_duration_seconds_bucket",
            "fusion_end_to_end_duration_seconds_bucket",
            "process_resident_memory_bytes",
        }
        wait_until(lambda: wanted <= with_samples(worker.get("/metrics")), 60, "not every metric has a sample")
        page = worker.get("/metrics")
    assert lint(page) == set()
    assert any(GpuCollector().collect()) == ("fusion_gpu_memory_bytes" in families(page))


def test_every_metric_is_as_prometheus_wants_it() -> None:
    """Those too that a short run gives no sample: the linter passes over them."""
    worker = WorkerMetrics(CollectorRegistry(), version="1", revision="r", dollars_per_hour=1.0)
    worker.watch_model_process(os.getpid)
    worker.cost.serving("v1")
    worker.registry.register(GpuCollector(Driver(percent=[50], used=[1])))
    for metrics, complaints in ((worker, set()), (MonitorMetrics(), {COUNT_OF_DAYS})):
        for metric in vars(metrics).values():
            names = getattr(metric, "label_names", getattr(metric, "_labelnames", ()))
            series = metric.labels(*names) if names and hasattr(metric, "labels") else metric
            for act in ("inc", "observe"):
                if hasattr(series, act):
                    getattr(series, act)(*([1.0] if act == "observe" else []))
        page = generate_latest(metrics.registry).decode()
        assert {family.removesuffix("_total") for family in families(page)} == {
            name.rsplit("_bucket", 1)[0].removesuffix("_total")
            for name in with_samples(page)
            if not name.endswith(("_sum", "_count"))
        }
        assert lint(page) == complaints


@contextmanager
def _monitor(database: str, log: Path) -> Iterator[str]:
    port = free_port()
    changes = {"MONITOR_PORT": str(port), "DETECT_INTERVAL_SECONDS": "0.2", "GRACE_SECONDS": "0"}
    with log.open("w") as output:
        process = subprocess.Popen([COMMAND, "run"], env=environment(database, **changes), stderr=output)
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_a_monitors_page_is_as_prometheus_wants_it(database: str, tmp_path: Path) -> None:
    def page(url: str) -> str:
        try:
            return get(url)[1]
        except OSError:
            return ""

    with _monitor(database, tmp_path / "log") as url:
        wait_until(lambda: "fusion_scheduler_runs_total{" in page(url), 120, "the monitor has not run a task")
        assert lint(page(url)) <= {COUNT_OF_DAYS}

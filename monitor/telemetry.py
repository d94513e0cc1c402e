"""The monitor's metrics, in one place, and the HTTP endpoint that shows them beside health and readiness."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST


class Metrics:
    """Every metric of the monitor. Ratios are 0-1, times seconds since 1970."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leader = self._gauge("scheduler_leader", "1 while this monitor leads, 0 while it stands by")
        self.runs = self._counter("scheduler_runs", "runs of a task: ok, error, standby or fenced", "job", "result")
        self.last_success = self._gauge("drift_last_success_timestamp_seconds", "a task's last good run", "job")
        self.embedding_drift = self._gauge(
            "embedding_drift_score", "newest value of an embedding detector", "modality", "method"
        )
        self.prediction_drift = self._gauge(
            "prediction_drift_score", "newest value of a prediction detector", "modality", "method"
        )
        self.calibration_error = self._gauge("calibration_error_ratio", "newest debiased ECE", "model_version")
        self.calibration_samples = self._gauge("calibration_samples", "labelled rows behind it", "model_version")
        self.slo_burn_rate = self._gauge("slo_burn_rate", "times too fast that a budget is used up", "slo", "window")
        self.slo_budget = self._gauge(
            "slo_error_budget_remaining_ratio",
            "share of the error budget left, negative where overdrawn",
            "slo",
            "window",
        )
        self.alerts_firing = self._gauge("alerts_firing", "alerts firing now", "alertname", "severity")
        self.alert_decisions = self._counter(
            "alert_decisions", "due or suppressed, and which stage said so", "decision", "reason"
        )
        self.notifications = self._counter("notifications", "messages, by what became of them", "receiver", "reason")
        self.notification_failures = self._counter("notification_failures", "tries that failed", "receiver", "reason")
        self.retrain_jobs = self._counter("retrain_jobs", "retrain jobs queued or ended", "result")
        self.promotions = self._counter("promotions", "gate verdicts: promoted or rejected", "result")
        self.reports = self._counter("reports", "reports: done, incomplete or failed", "cadence", "result")
        self.partition_days_ahead = self._gauge("log_partition_days_ahead", "days that have their log partition")
        self._gauge("build_info", "what is running", "version", "revision").labels(version("fusionwatch"), "").set(1)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"fusion_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"fusion_{name}", text, labels, registry=self.registry)


@contextmanager
def serve(metrics: Metrics, ready: Callable[[], str | None], host: str, port: int) -> Iterator[int]:
    """Serve /metrics, /healthz and /readyz while inside; yields the port (the one taken where `port` is 0).

    `ready` returns None, or why the monitor is not ready. Raises OSError where the address cannot be taken.
    """
    server = ThreadingHTTPServer((host, port), _handler(metrics, ready))
    thread = threading.Thread(target=server.serve_forever, name="telemetry", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(metrics: Metrics, ready: Callable[[], str | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._reply(HTTPStatus.OK, generate_latest(metrics.registry), CONTENT_TYPE_LATEST)
            elif self.path == "/healthz":
                self._reply(HTTPStatus.OK, b"ok\n")
            elif self.path == "/readyz":
                reason = ready()
                status = HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE
                self._reply(status, f"{reason or 'ready'}\n".encode())
            else:
                self._reply(HTTPStatus.NOT_FOUND, b"not found\n")

        def _reply(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds: not worth a line each."""

    return Handler

"""Spans on their way to a collector, which may be slow, wrong or gone: the worker never waits for it."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_log = logging.getLogger(__name__)
QUEUE_SPANS = 8192  # a few MB at most
BATCH_SPANS = 512
INTERVAL_SECONDS = 1.0
FLUSH_SECONDS = 1.0
EXPORT_SECONDS = 5.0  # of one batch, its retries included


def otlp(endpoint: str) -> SpanExporter:
    """An OTLP/HTTP exporter to `{endpoint}/v1/traces`.

    OpenTelemetry's own variables hold for the rest: OTEL_EXPORTER_OTLP_HEADERS, _CERTIFICATE, _COMPRESSION.
    """
    # it would tell of each failed batch, and with its address; `BoundedExport` tells of the first
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    return OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)


class BoundedExport(SpanProcessor):
    """Exports ended spans in batches, in a thread of its own, out of a bounded queue.

    The SDK's own batch processor does not tell what it drops, and at shutdown waits up to 30 s for a collector. Here
    a span that finds the queue full, or that the collector does not take, is dropped and counted; shutdown waits
    `flush_seconds` at most, and not at all where the last export failed.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        dropped: Callable[[str, int], None],
        *,
        queue_spans: int = QUEUE_SPANS,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        """`dropped` is called with a reason (`queue_full`, `export_failed`, `shutdown`) and a number of spans."""
        self._exporter = exporter
        self._dropped = dropped
        self._flush_seconds = flush_seconds
        self._queue: queue.Queue[ReadableSpan] = queue.Queue(queue_spans)
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._reachable = True
        self._thread = threading.Thread(target=self._run, name="span-export", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span, or drop it: never waits."""
        if self._closing.is_set():
            self._dropped("shutdown", 1)
            return
        try:
            self._queue.put_nowait(span)
        except queue.Full:
            self._dropped("queue_full", 1)
            return
        if self._queue.qsize() >= BATCH_SPANS:
            self._wake.set()

    def shutdown(self) -> None:
        """Export what is left if the collector takes it at once; what it does not is dropped."""
        self._closing.set()
        self._wake.set()
        if self._reachable:
            self._thread.join(self._flush_seconds)
        self._exporter.shutdown()  # ends an export's waiting between its retries
        if left := len(self._take(self._queue.maxsize)):
            self._dropped("shutdown", left)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(INTERVAL_SECONDS)
            self._wake.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while spans := self._take(BATCH_SPANS):
            self._export(spans)

    def _take(self, most: int) -> list[ReadableSpan]:
        spans: list[ReadableSpan] = []
        while len(spans) < most:
            try:
                spans.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return spans

    def _export(self, spans: list[ReadableSpan]) -> None:
        try:
            taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:  # noqa: BLE001  # a thread's edge: whatever the exporter raises, later spans are tried
            taken = False
        if not taken:
            self._dropped("export_failed", len(spans))
        if taken != self._reachable:
            self._reachable = taken
            _log.warning("the trace collector %s", "takes spans again" if taken else "does not take spans: they drop")

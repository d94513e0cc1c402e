"""Spans on the wire: what an OTLP/HTTP collector gets, and what it costs where it gets nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client import CollectorRegistry

from demo.servers import free_port
from inference import tracing
from inference.answers import Outgoing
from inference.record import Record
from inference.telemetry import Metrics
from tests.support.http_stub import Stub, answering
from tests.support.worker import wait_until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01".encode()


class Traced:
    """A tracer as the worker makes it, with the worker's metrics."""

    def __init__(self, endpoint: str) -> None:
        metrics = Metrics(CollectorRegistry(), version="1", revision="r")
        self._registry = metrics.registry
        self.tracer = tracing.connect(
            endpoint,
            ratio=1.0,
            group="readers",
            answer_topic="answers",
            instance="worker-1",
            version="1.2",
            dropped=lambda reason, spans: metrics.spans_dropped.labels(reason).inc(spans),
            invalid=metrics.contexts_invalid.inc,
        )

    def dropped(self) -> Counter[str]:
        """Spans dropped, by reason."""
        samples = (sample for family in self._registry.collect() for sample in family.samples)
        found = {s.labels["reason"]: int(s.value) for s in samples if s.name == "fusion_trace_spans_dropped_total"}
        return Counter(found)

    def value(self, name: str) -> float | None:
        return self._registry.get_sample_value(name)

    def serve_a_batch(self, records: int = 2) -> None:
        """What the worker's stages call: 7 spans, and one more for each of the records but the first."""
        now = time.monotonic()
        headers = (("traceparent", SAMPLED),)
        read = [
            Record("requests", 0, offset, b"k", b"v", headers if offset else (), now, datetime.now(UTC))
            for offset in range(records)
        ]
        self.tracer.poll("requests", read, now, now + 0.001)
        batch = self.tracer.batch("requests", read, now + 0.001)
        batch.decoded({"image": (now + 0.001, now + 0.002)})
        batch.forward(now + 0.006, {"image": 3.0}, 1.0)
        batch.sending([Outgoing("answers", str(r.offset).encode(), b"{}", r.headers) for r in read])
        batch.sent(now + 0.008)
        self.tracer.wrote([batch], now + 0.009, now + 0.010, records)


def received(stub: Stub) -> dict[str, list[Span]]:
    """The spans a collector got, by name."""
    found: dict[str, list[Span]] = {}
    for _, body in list(stub.requests):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    found.setdefault(span.name, []).append(span)
    return found


def texts(span: Span) -> dict[str, str | int]:
    return {
        a.key: a.value.string_value if a.value.HasField("string_value") else a.value.int_value for a in span.attributes
    }


def test_a_collector_gets_the_spans_of_a_batch() -> None:
    with answering(200) as stub:
        traced = Traced(stub.url.removesuffix("/hook"))
        traced.serve_a_batch()
        wait_until(lambda: sum(map(len, received(stub).values())) == 8, 60, "the spans did not arrive")
        traced.tracer.close()
    headers, body = stub.requests[0]
    assert headers["Content-Type"] == "application/x-protobuf"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    about = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert about["service.name"] == "fusionwatch-worker"
    assert about["service.version"] == "1.2"
    assert about["service.instance.id"] == "worker-1"
    assert {scope.schema_url for scope in resource.scope_spans} == {tracing.SCHEMA_URL}

    spans = received(stub)
    assert {
        name: [Span.SpanKind.Name(span.kind)[len("SPAN_KIND_") :] for span in of] for name, of in spans.items()
    } == {
        "poll requests": ["CLIENT"],
        "process requests": ["CONSUMER"],
        "decode image": ["INTERNAL"],
        "encode image": ["INTERNAL"],
        "fuse": ["INTERNAL"],
        "send answers": ["PRODUCER", "PRODUCER"],
        "write_predictions": ["INTERNAL"],
    }
    (process,), (poll,) = spans["process requests"], spans["poll requests"]
    assert process.parent_span_id == poll.parent_span_id == b""
    assert process.trace_id != poll.trace_id
    for span in (process, poll):
        assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] == [(TRACE, SPAN)]
    for name in ("decode image", "encode image", "fuse", "write_predictions"):
        (span,) = spans[name]
        assert (span.trace_id, span.parent_span_id) == (process.trace_id, process.span_id)
        assert process.start_time_unix_nano <= span.start_time_unix_nano < span.end_time_unix_nano
        assert span.end_time_unix_nano <= process.end_time_unix_nano
    own, rest = sorted(spans["send answers"], key=lambda span: span.trace_id != bytes.fromhex(TRACE))
    assert (own.trace_id.hex(), own.parent_span_id.hex()) == (TRACE, SPAN)
    assert [(link.trace_id, link.span_id) for link in own.links] == [(process.trace_id, process.span_id)]
    assert (rest.trace_id, rest.parent_span_id) == (process.trace_id, process.span_id)
    assert texts(process) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "requests",
        "messaging.destination.partition.id": "0",
        "messaging.consumer.group.name": "readers",
        "messaging.batch.message_count": 2,
    }
    assert texts(own)["messaging.kafka.message.key"] == "1"
    assert {span.status.code for of in spans.values() for span in of} == {Status.STATUS_CODE_UNSET}
    assert traced.dropped().total() == 0


def test_spans_that_wait_are_exported_at_the_end() -> None:
    with answering(200) as stub:
        traced = Traced(stub.url.removesuffix("/hook"))
        for _ in range(50):
            traced.serve_a_batch()
        traced.tracer.close()
        wait_until(
            lambda: sum(map(len, received(stub).values())) + traced.dropped().total() == 400, 60, "spans were lost"
        )
        assert received(stub)


def _unreachable() -> str:
    return f"http://127.0.0.1:{free_port()}"


@contextmanager
def _black_hole() -> Iterator[str]:
    """A collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _worked(traced: Traced, batches: int) -> threading.Thread:
    """A worker's life as a thread: batches, then the end of it."""

    def live() -> None:
        for _ in range(batches):
            traced.serve_a_batch()
        traced.tracer.close()

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["refuses connections", "never answers"])
def test_a_collector_that_is_away_holds_nothing_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export would take an hour here: whoever waited for one would still be waiting at the deadline."""
    monkeypatch.setattr("inference.span_export.EXPORT_SECONDS", 3600.0)
    with _black_hole() as hole:
        traced = Traced(hole if kind == "never answers" else _unreachable())
        worker = _worked(traced, 2000)
        worker.join(120)
        assert not worker.is_alive()
        in_hand = 512  # of the export that hangs
        wait_until(lambda: traced.dropped().total() >= 2000 * 8 - in_hand, 60, "drops were not counted")
    assert traced.dropped()["queue_full"] > 0


@pytest.mark.parametrize("status", [400, 404])
def test_a_collector_that_refuses_spans_is_counted(status: int) -> None:
    with answering(status) as stub:
        traced = Traced(stub.url.removesuffix("/hook"))
        traced.serve_a_batch()
        wait_until(lambda: traced.dropped()["export_failed"] == 8, 60, "refused spans were not counted")
        stub.script[:] = [200]
        traced.serve_a_batch()
        wait_until(lambda: len(stub.requests) >= 2, 60, "no later export was tried")
        traced.tracer.close()
        assert traced.dropped()["export_failed"] == 8


def test_malformed_contexts_are_counted() -> None:
    with answering(200) as stub:
        traced = Traced(stub.url.removesuffix("/hook"))
        read = [Record("requests", 0, 0, None, None, (("traceparent", b"00-1-2-01"),), 0.0, datetime.now(UTC))]
        traced.tracer.batch("requests", read, time.monotonic()).end(time.monotonic())
        traced.tracer.close()
        assert traced.value("fusion_trace_contexts_invalid_total") == 1

"""Spans as the SDK records them: names, kinds, parents, links, attributes, and the contexts that go with messages."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from inference import tracing
from inference.answers import Outgoing
from inference.record import Header, Record
from inference.span_export import BoundedExport
from inference.spans import SpanTracer, creation_context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01".encode(), f"00-{TRACE}-{SPAN}-00".encode()
MALFORMED = (
    b"",
    b"junk",
    b"\xff\xfe",
    b"00-1-2-01",
    f"ff-{TRACE}-{SPAN}-01".encode(),
    f"00-{'0' * 32}-{SPAN}-01".encode(),
    f"00-{TRACE}-{'0' * 16}-01".encode(),
    f"00-{TRACE.upper()}-{SPAN}-01".encode(),
    SAMPLED + b"-more",
    b"0" * 10_000,
)


class Recorded:
    """A tracer whose spans stay in memory."""

    def __init__(self, ratio: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        self.invalid = 0
        self.tracer = SpanTracer(
            SimpleSpanProcessor(self._exporter),
            ratio=ratio,
            group="readers",
            answer_topic="answers",
            resource={"service.version": "1.2"},
            invalid=self._count,
        )

    def _count(self) -> None:
        self.invalid += 1

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (span,) = (span for span in self.spans if span.name == name)
        return span


def record(offset: int, traceparent: bytes | None = None, partition: int = 0) -> Record:
    headers = () if traceparent is None else (("traceparent", traceparent),)
    return Record("requests", partition, offset, b"k", b"v", headers, 0.0, datetime.now(UTC))


def answer(key: str, *headers: Header, topic: str = "answers") -> Outgoing:
    return Outgoing(topic, key.encode(), b"{}", headers)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Trace id and span id, as in a `traceparent`."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parent(span: ReadableSpan) -> tuple[str, str] | None:
    return None if span.parent is None else (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}")


def links(span: ReadableSpan) -> list[tuple[str, str]]:
    return [(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links]


def carried(message: Outgoing) -> list[bytes | None]:
    return [value for name, value in message.headers if name.lower() == "traceparent"]


def test_a_batch_is_a_root_linked_to_its_messages_with_a_child_for_each_step() -> None:
    recorded = Recorded()
    before = time.time_ns()
    now = time.monotonic()
    batch = recorded.tracer.batch("requests", [record(7, SAMPLED), record(8), record(4, UNSAMPLED, partition=1)], now)
    assert batch.recording
    batch.decoded({"text": (now + 1, now + 2), "image": (now, now + 3)})
    batch.forward(now + 10, {"image": 2000.0, "text": 1000.0}, 500.0)
    batch.span("look up", now + 3, now + 4, error="cache_gone")
    recorded.tracer.wrote([batch], now + 11, now + 12, rows=3)

    process = recorded.named("process requests")
    assert process.kind is SpanKind.CONSUMER
    assert process.parent is None
    assert process.status.status_code is StatusCode.UNSET
    assert attributes(process) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "requests",
        "messaging.consumer.group.name": "readers",
        "messaging.batch.message_count": 3,
    }
    assert links(process) == [(TRACE, SPAN), (TRACE, SPAN)]
    assert [dict(link.attributes or {}) for link in process.links] == [
        {"messaging.destination.partition.id": "0", "messaging.kafka.offset": 7},
        {"messaging.destination.partition.id": "1", "messaging.kafka.offset": 4},
    ]
    assert process.resource.attributes["service.version"] == "1.2"
    assert process.instrumentation_scope is not None
    assert process.instrumentation_scope.schema_url == tracing.SCHEMA_URL

    assert process.start_time is not None
    assert abs(process.start_time - before) < 60e9
    seconds = {
        span.name: ((span.start_time or 0) - process.start_time, (span.end_time or 0) - process.start_time)
        for span in recorded.spans
    }
    expected = {
        "process requests": (0, 12),
        "decode image": (0, 3),
        "decode text": (1, 2),
        "look up": (3, 4),
        "encode image": (6.5, 8.5),
        "encode text": (8.5, 9.5),
        "fuse": (9.5, 10),
        "write_predictions": (11, 12),
    }
    assert seconds.keys() == expected.keys()
    for name, (started, ended) in expected.items():
        assert seconds[name] == pytest.approx((started * 1e9, ended * 1e9), abs=1e5), name
    for span in recorded.spans:
        if span is not process and span.name != "process requests":
            assert span.kind is SpanKind.INTERNAL
            assert parent(span) == ids(process)
    failed = recorded.named("look up")
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes(failed) == {"error.type": "cache_gone"}
    assert attributes(recorded.named("write_predictions")) == {"fusionwatch.rows": 3}


def test_a_batch_from_one_place_says_which() -> None:
    recorded = Recorded()
    recorded.tracer.batch("requests", [record(7, partition=3)], 0.0).end(1.0)
    found = attributes(recorded.named("process requests"))
    assert found["messaging.destination.partition.id"] == "3"
    assert found["messaging.kafka.offset"] == 7
    assert found["messaging.batch.message_count"] == 1


def test_polls_that_bring_something_or_fail_are_spans_of_their_own() -> None:
    recorded = Recorded()
    now = time.monotonic()
    recorded.tracer.poll("requests", [], now, now + 1)
    assert recorded.spans == []
    recorded.tracer.poll("requests", [record(1, SAMPLED), record(2)], now, now + 1)
    span = recorded.named("poll requests")
    assert (span.kind, span.parent, links(span)) == (SpanKind.CLIENT, None, [(TRACE, SPAN)])
    assert attributes(span)["messaging.operation.type"] == "receive"
    assert attributes(span)["messaging.operation.name"] == "poll"
    assert attributes(span)["messaging.batch.message_count"] == 2
    recorded.tracer.poll("requests", [], now, now + 1, error="NodeNotReadyError")
    failed = recorded.spans[-1]
    assert (failed.status.status_code, attributes(failed)["error.type"]) == (StatusCode.ERROR, "NodeNotReadyError")


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_context_is_counted_and_replaced(header: bytes) -> None:
    recorded = Recorded()
    batch = recorded.tracer.batch("requests", [record(0, header), record(1, SAMPLED)], 0.0)
    (message,) = batch.sending([answer("a", ("traceparent", header), ("tracestate", b"a=1"), ("other", b"1"))])
    batch.sent(1.0)
    batch.end(1.0)
    assert recorded.invalid == 1
    assert links(recorded.named("process requests")) == [(TRACE, SPAN)]
    send = recorded.named("send answers")
    assert send.kind is SpanKind.PRODUCER
    assert parent(send) == ids(recorded.named("process requests"))
    trace, span = ids(send)
    assert dict(message.headers).keys() == {"other", "traceparent"}
    context = creation_context(message.headers)
    assert context is not None
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled) == (trace, span, True)


def test_an_answer_goes_on_in_the_requests_own_trace_where_that_is_sampled() -> None:
    recorded = Recorded()
    batch = recorded.tracer.batch("requests", [record(0, SAMPLED)], 0.0)
    given = answer("r1", ("TraceParent", SAMPLED), ("tracestate", b"vendor=1"), ("other", b"1"))
    (message,) = batch.sending([given])
    assert recorded.spans == []
    batch.sent(time.monotonic())
    batch.end(time.monotonic())
    send, process = recorded.named("send answers"), recorded.named("process requests")
    assert send.kind is SpanKind.PRODUCER
    assert parent(send) == (TRACE, SPAN)
    assert links(send) == [ids(process)]
    assert attributes(send) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "answers",
        "messaging.kafka.message.key": "r1",
    }
    (header,) = carried(message)
    assert header is not None
    found = re.fullmatch(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", header)
    assert found is not None
    assert (found[1].decode(), found[2].decode()) == ids(send)
    assert ids(send)[0] == TRACE
    assert ("tracestate", b"vendor=1") in message.headers
    assert ("other", b"1") in message.headers
    assert (message.topic, message.key, message.value) == (given.topic, given.key, given.value)


def test_contexts_of_others_pass_through_and_missing_ones_are_given() -> None:
    recorded = Recorded()
    batch = recorded.tracer.batch("requests", [record(0)], 0.0)
    given = [
        answer("unsampled", ("traceparent", UNSAMPLED)),
        answer("bare"),
        answer("dead", ("traceparent", SAMPLED), topic="dlq"),
        answer("dead and bare", topic="dlq"),
        answer("sampled", ("traceparent", SAMPLED)),
        answer("bare too"),
    ]
    sent = batch.sending(given)
    batch.sent(1.0)
    batch.end(1.0)
    assert [message.key for message in sent] == [message.key for message in given]
    assert sent[0] == given[0]
    assert sent[2:4] == given[2:4]
    sends = [span for span in recorded.spans if span.name.startswith("send")]
    found = [(s.name, s.kind, attributes(s).get("messaging.batch.message_count")) for s in sends]
    assert found == [
        ("send answers", SpanKind.PRODUCER, None),
        ("send answers", SpanKind.PRODUCER, 3),
        ("send dlq", SpanKind.CLIENT, 2),
    ]
    own, rest, _ = sends
    for index, span in ((4, own), (1, rest), (5, rest)):
        (header,) = carried(sent[index])
        assert header is not None
        assert header.decode().rsplit("-", 1)[0] == "-".join(("00", *ids(span)))


def test_nothing_sampled_and_nothing_new_is_sent_by_a_client() -> None:
    recorded = Recorded()
    batch = recorded.tracer.batch("requests", [record(0)], 0.0)
    batch.sending([answer("unsampled", ("traceparent", UNSAMPLED))])
    batch.end(1.0, "rebalance")
    send, process = recorded.named("send answers"), recorded.named("process requests")
    assert send.kind is SpanKind.CLIENT
    for span in (send, process):  # dropped before it was known to be sent
        assert (span.status.status_code, attributes(span)["error.type"]) == (StatusCode.ERROR, "rebalance")


def test_a_transaction_has_the_first_batch_as_parent_and_links_to_the_others() -> None:
    recorded = Recorded()
    first, second = (recorded.tracer.batch("requests", [record(offset)], 0.0) for offset in (1, 2))
    recorded.tracer.wrote([tracing.UNTRACED, first, second], 1.0, 2.0, rows=40, error="stale_write")
    one, two = (span for span in recorded.spans if span.name == "process requests")
    write = recorded.named("write_predictions")
    assert (parent(write), links(write)) == (ids(one), [ids(two)])
    for span in (one, two, write):
        assert (span.status.status_code, attributes(span)["error.type"]) == (StatusCode.ERROR, "stale_write")
    first.end(3.0)  # a batch ends once
    recorded.tracer.wrote([tracing.UNTRACED], 1.0, 2.0, rows=1)
    assert len(recorded.spans) == 3


def test_the_ratio_of_batches_is_traced_and_the_others_are_left_as_they_are() -> None:
    recorded = Recorded(ratio=0.25)
    for offset in range(2000):
        recorded.tracer.poll("requests", [record(offset)], 0.0, 1.0)
        batch = recorded.tracer.batch("requests", [record(offset, b"junk")], 0.0)
        messages = [answer("a", ("traceparent", SAMPLED))]
        if not batch.recording:
            assert batch.sending(messages) is messages
        batch.end(1.0)
    names = [span.name for span in recorded.spans]
    for name in ("poll requests", "process requests"):
        assert 0.25 * 2000 - 6 * 20 < names.count(name) < 0.25 * 2000 + 6 * 20  # six standard deviations
    assert recorded.invalid == names.count("process requests")


def test_off_means_no_spans_and_no_opentelemetry() -> None:
    """In a process of its own: this one has imported it long ago."""
    program = """
import sys
from inference import answers, observe, telemetry, tracing
fields = dict(group="g", answer_topic="a", instance="i", version="1", dropped=print, invalid=print)
for tracer in (tracing.connect(None, ratio=1.0, **fields), tracing.connect("http://x", ratio=0.0, **fields)):
    batch = tracer.batch("t", [], 0.0)
    assert not batch.recording and batch is tracing.UNTRACED
    messages = []
    assert batch.sending(messages) is messages
    batch.decoded({}); batch.forward(1.0, {}, 1.0); batch.span("x", 0.0, 1.0); batch.sent(1.0); batch.end(1.0)
    tracer.poll("t", [], 0.0, 1.0); tracer.wrote([batch], 0.0, 1.0, 0); tracer.close()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


class Collector(SpanExporter):
    """Takes spans once it is let to, or refuses them."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.go = threading.Event()
        self.begun = threading.Event()
        self.batches: list[int] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun.set()
        assert self.go.wait(60)
        self.batches.append(len(spans))
        return self.result

    def shutdown(self) -> None:
        self.go.set()


class Drops:
    def __init__(self) -> None:
        self.by_reason: dict[str, int] = {}

    def __call__(self, reason: str, spans: int) -> None:
        self.by_reason[reason] = self.by_reason.get(reason, 0) + spans

    @property
    def total(self) -> int:
        return sum(self.by_reason.values())


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_queue_drops_and_counts_and_nothing_waits() -> None:
    collector, drops = Collector(), Drops()
    export = BoundedExport(collector, drops, queue_spans=600)
    span = ReadableSpan("x")
    for _ in range(512):
        export.on_end(span)  # a full batch wakes the exporter, which is then held
    assert collector.begun.wait(60)
    for _ in range(1000):
        export.on_end(span)
    assert drops.by_reason["queue_full"] >= 1000 - 600
    collector.go.set()
    export.shutdown()
    eventually(lambda: sum(collector.batches) + drops.total == 1512)
    assert max(collector.batches) <= 512
    export.on_end(span)
    assert drops.by_reason["shutdown"] >= 1


def test_what_the_collector_refuses_is_counted() -> None:
    collector, drops = Collector(SpanExportResult.FAILURE), Drops()
    collector.go.set()
    export = BoundedExport(collector, drops)
    for _ in range(700):
        export.on_end(ReadableSpan("x"))
    export.shutdown()
    eventually(lambda: drops.total == 700)
    assert drops.by_reason["export_failed"] > 0
    assert not drops.by_reason.get("queue_full")


def test_shutdown_exports_what_is_left() -> None:
    collector, drops = Collector(), Drops()
    collector.go.set()
    export = BoundedExport(collector, drops, flush_seconds=60)
    export.on_end(ReadableSpan("x"))
    export.shutdown()
    eventually(lambda: collector.batches == [1])
    assert drops.by_reason == {}

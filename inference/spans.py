"""Traces as OpenTelemetry spans. Imported only where tracing is on; `inference.tracing` says what there is to call."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inference.tracing import SCHEMA_URL, UNTRACED, BatchTrace, Tracer

if TYPE_CHECKING:
    from inference.answers import Outgoing
    from inference.record import Header, Record

SERVICE = "fusionwatch-worker"
MAX_LINKS = 1024  # of a span; a larger batch says how many links it left out
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
_W3C = TraceContextTextMapPropagator()
Attributes = dict[str, str | int]


class SpanTracer(Tracer):
    """Traces a share of all batches."""

    def __init__(
        self,
        processor: SpanProcessor,
        *,
        ratio: float,
        group: str,
        answer_topic: str,
        resource: Mapping[str, str],
        invalid: Callable[[], None],
    ) -> None:
        """`processor` gets the ended spans. For the rest see `inference.tracing.connect`."""
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # what is not traced never gets as far as the SDK
            resource=Resource.create({"service.name": SERVICE, **resource}, SCHEMA_URL),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_links=MAX_LINKS),
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("fusionwatch.inference", schema_url=SCHEMA_URL)
        self._ratio = ratio
        self._group = group
        self._answer_topic = answer_topic
        self._invalid = invalid

    def poll(
        self, topic: str, records: Sequence[Record], started: float, ended: float, error: str | None = None
    ) -> None:
        """See `Tracer.poll`."""
        if (not records and error is None) or random.random() >= self._ratio:
            return
        clock = _Clock()
        span = self._read("poll", "receive", SpanKind.CLIENT, topic, records, clock.unix(started))
        _finish(span, clock.unix(ended), error)

    def batch(self, topic: str, records: Sequence[Record], started: float) -> BatchTrace:
        """See `Tracer.batch`."""
        if random.random() >= self._ratio:
            return UNTRACED
        clock = _Clock()
        span = self._read("process", "process", SpanKind.CONSUMER, topic, records, clock.unix(started))
        return _RecordedBatch(self, span, clock)

    def _read(
        self, name: str, operation: str, kind: SpanKind, topic: str, records: Sequence[Record], started: int
    ) -> Span:
        """A root span linked to the creation context of each message that brought one."""
        attributes = _messaging(name, operation, topic)
        attributes["messaging.consumer.group.name"] = self._group
        attributes["messaging.batch.message_count"] = len(records)
        if len({record.partition for record in records}) == 1:
            attributes["messaging.destination.partition.id"] = str(records[0].partition)
        if len(records) == 1:
            attributes["messaging.kafka.offset"] = records[0].offset
        links = []
        for record in records:
            context = creation_context(record.headers)
            if context is not None and context.is_valid:
                links.append(Link(context, _place(record)))
            elif context is not None:
                self._invalid()
        return self.start(f"{name} {topic}", started, kind, attributes=attributes, links=links)

    def start(
        self,
        name: str,
        started: int,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: SpanContext | None = None,
        attributes: Attributes | None = None,
        links: Sequence[Link] = (),
    ) -> Span:
        """A span that began at Unix nanoseconds; a root without `parent`, whatever the thread's current span."""
        context = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
        return self._tracer.start_span(name, context, kind, attributes, links, started)

    def answers(self, message: Outgoing) -> bool:
        """Whether a message is the worker's own, which gets a context of its own."""
        return message.topic == self._answer_topic

    def wrote(
        self, batches: Sequence[BatchTrace], started: float, ended: float, rows: int, error: str | None = None
    ) -> None:
        """See `Tracer.wrote`. A span has one parent: the first batch traced; the others are linked to it."""
        traced = [batch for batch in batches if isinstance(batch, _RecordedBatch)]
        if not traced:
            return
        first, *others = traced
        span = self.start(
            "write_predictions",
            first.clock.unix(started),
            parent=first.context,
            attributes={"fusionwatch.rows": rows},
            links=[Link(batch.context) for batch in others],
        )
        _finish(span, first.clock.unix(ended), error)
        for batch in traced:
            batch.end(ended, error)

    def close(self) -> None:
        """See `Tracer.close`."""
        self._provider.shutdown()


class _RecordedBatch(BatchTrace):
    """The trace of a batch that is exported."""

    recording = True

    def __init__(self, tracer: SpanTracer, span: Span, clock: _Clock) -> None:
        self.clock = clock
        self.context = span.get_span_context()
        self._tracer = tracer
        self._span = span
        self._sends: list[Span] = []

    def decoded(self, times: Mapping[str, tuple[float, float]]) -> None:
        for name, (started, ended) in sorted(times.items()):
            self.span(f"decode {name}", started, ended)

    def forward(self, ended: float, encode_ms: Mapping[str, float], fuse_ms: float, error: str | None = None) -> None:
        # the model's process tells durations, not times: they are laid out backwards from the end
        at = ended - (sum(encode_ms.values()) + fuse_ms) / 1000
        for name, milliseconds in encode_ms.items():
            self.span(f"encode {name}", at, at + milliseconds / 1000)
            at += milliseconds / 1000
        self.span("fuse", at, ended, error)

    def span(self, name: str, started: float, ended: float, error: str | None = None) -> None:
        span = self._tracer.start(name, self.clock.unix(started), parent=self.context)
        _finish(span, self.clock.unix(ended), error)

    def sending(self, messages: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Who made a message gives it its creation context, which nobody changes: so the conventions.

        A dead letter is the producer's message, and keeps what it has. An answer is this worker's: its context is
        that of the span that sends it. Where the request's trace is sampled, that span is a child in it: the trace
        goes on from the producer through the answer to whoever reads it. Where it is not sampled, nobody would see a
        span in it, and the context passes through as it came. Where there is none (or a malformed one, which W3C says
        to replace, its tracestate with it), the answer carries the context of the batch's own `send`.
        """
        now = time.time_ns()
        out = list(messages)
        rest: dict[str, list[int]] = {}
        fresh: dict[str, list[int]] = {}
        for index, message in enumerate(messages):
            context = creation_context(message.headers)
            own = self._tracer.answers(message)
            if own and context is not None and context.is_valid and context.trace_flags.sampled:
                out[index] = self._send_in(context, message, now)
                continue
            rest.setdefault(message.topic, []).append(index)
            if own and (context is None or not context.is_valid):
                fresh.setdefault(message.topic, []).append(index)
        for topic, indices in rest.items():
            span = self._send_rest(topic, len(indices), now, carried=topic in fresh)
            for index in fresh.get(topic, ()):
                out[index] = _carrying(out[index], span, without=(TRACEPARENT, TRACESTATE))
        return out

    def _send_in(self, context: SpanContext, message: Outgoing, now: int) -> Outgoing:
        """Start a span in the request's own trace; returns the answer that carries it on."""
        attributes = _messaging("send", "send", message.topic)
        if message.key is not None:
            attributes["messaging.kafka.message.key"] = message.key.decode("utf-8", "replace")
        span = self._tracer.start(
            f"send {message.topic}",
            now,
            SpanKind.PRODUCER,
            parent=context,
            attributes=attributes,
            links=[Link(self.context)],
        )
        self._sends.append(span)
        return _carrying(message, span, without=(TRACEPARENT,))

    def _send_rest(self, topic: str, messages: int, now: int, *, carried: bool) -> Span:
        """Start one span for these; its kind says whether its context goes with any of them."""
        attributes = _messaging("send", "send", topic)
        attributes["messaging.batch.message_count"] = messages
        kind = SpanKind.PRODUCER if carried else SpanKind.CLIENT
        span = self._tracer.start(f"send {topic}", now, kind, parent=self.context, attributes=attributes)
        self._sends.append(span)
        return span

    def sent(self, ended: float, error: str | None = None) -> None:
        for span in self._sends:
            _finish(span, self.clock.unix(ended), error)
        self._sends = []

    def end(self, ended: float, error: str | None = None) -> None:
        if not self._span.is_recording():
            return
        self.sent(ended, error)
        _finish(self._span, self.clock.unix(ended), error)


class _Clock:
    """Monotonic seconds as Unix nanoseconds, by one reading of both: the spans of a batch keep their distances."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def unix(self, monotonic: float) -> int:
        return self._offset + int(monotonic * 1e9)


def creation_context(headers: Sequence[Header]) -> SpanContext | None:
    """The trace context of a message (W3C Trace Context): None without one, an invalid one where it is malformed."""
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in (TRACEPARENT, TRACESTATE) and value is not None:
            found[lower] = value.decode("ascii", "replace")
    if TRACEPARENT not in found:
        return None
    return get_current_span(_W3C.extract(found)).get_span_context()


def _carrying(message: Outgoing, span: Span, *, without: tuple[str, ...]) -> Outgoing:
    """The message with the span's context as its `traceparent`, and without these headers."""
    context = span.get_span_context()
    carried = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()
    kept = tuple(header for header in message.headers if header[0].lower() not in without)
    return replace(message, headers=(*kept, (TRACEPARENT, carried)))


def _messaging(name: str, kind: str, topic: str) -> Attributes:
    """What each messaging span has: Kafka's name of the operation, and the conventions' own."""
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
    }


def _place(record: Record) -> Attributes:
    return {
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
    }


def _finish(span: Span, ended: int, error: str | None) -> None:
    if error is not None:
        span.set_status(StatusCode.ERROR)
        span.set_attribute("error.type", error)
    span.end(ended)

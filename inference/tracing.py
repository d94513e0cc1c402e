"""Traces of what the worker does with its batches: what the stages call, and nothing at all while tracing is off.

Spans are given by the times at which things happened, since a batch passes through several threads and a process:
every time is of `time.monotonic`, in seconds. A batch is traced as a whole or not at all:

    poll {topic}       CLIENT    a trace of its own, linked to each message
    process {topic}    CONSUMER  a trace of its own, linked to each message; the spans below are its children
      decode {modality}, encode {modality}, fuse, write_predictions          INTERNAL
      send {topic}     PRODUCER  the other answers; dead letters, CLIENT: they keep the trace they came with
    send {topic}       PRODUCER  an answer to a request of a sampled trace: in that trace, linked to `process {topic}`
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.answers import Outgoing
    from inference.record import Record

# OpenTelemetry's semantic conventions, whose messaging part is not stable yet: names, kinds and attributes of spans
# are those of this version, and exported spans say so.
SEMCONV_VERSION = "1.44.0"
SCHEMA_URL = f"https://opentelemetry.io/schemas/{SEMCONV_VERSION}"


class BatchTrace:
    """The trace of one batch; this one, of a batch that is not traced, does nothing.

    Each method may be called by another thread than the one before. `error` is the value of `error.type`: a stable
    code or an exception's class name, never its text.
    """

    recording = False  # whether it is worth while to find out what would be told

    def decoded(self, times: Mapping[str, tuple[float, float]]) -> None:
        """By modality, when decoding (and tokenizing) of the batch began and ended."""

    def forward(self, ended: float, encode_ms: Mapping[str, float], fuse_ms: float, error: str | None = None) -> None:
        """A forward pass that ended then: milliseconds by modality, in the order of the encoders, and those after."""

    def span(self, name: str, started: float, ended: float, error: str | None = None) -> None:
        """Anything else."""

    def sending(self, messages: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """The messages to send instead, which carry the trace on. Once, also where sending is tried repeatedly."""
        return messages

    def sent(self, ended: float, error: str | None = None) -> None:
        """The broker has the messages, or, with an error, will not get them."""

    def end(self, ended: float, error: str | None = None) -> None:
        """The batch is done with: dropped, unless `Tracer.wrote` was told of it, which ends it."""


class Tracer:
    """Traces of one worker; this one does nothing."""

    def poll(
        self, topic: str, records: Sequence[Record], started: float, ended: float, error: str | None = None
    ) -> None:
        """A poll that brought records, or failed."""

    def batch(self, topic: str, records: Sequence[Record], started: float) -> BatchTrace:  # noqa: ARG002  # see class
        """A trace for the batch of these records, whose first decoding began then."""
        return UNTRACED

    def wrote(
        self, batches: Sequence[BatchTrace], started: float, ended: float, rows: int, error: str | None = None
    ) -> None:
        """A transaction with the rows of these batches: one span of it, and the end of each batch."""

    def close(self) -> None:
        """Export what is left, within a second; at once where the collector could not be reached before."""


UNTRACED = BatchTrace()


def connect(
    endpoint: str | None,
    *,
    ratio: float,
    group: str,
    answer_topic: str,
    instance: str,
    version: str,
    dropped: Callable[[str, int], None],
    invalid: Callable[[], None],
) -> Tracer:
    """A tracer that exports to an OTLP/HTTP collector at a base URL; one that does nothing where there is none.

    `ratio` of all batches, and of all polls, are traced. `group` is the consumer group; messages to `answer_topic`
    get a new trace context, all others keep theirs. `instance` names this process, `version` the program. `dropped`
    is called with a reason and how many spans no collector got, `invalid` for each malformed trace context found.
    """
    if endpoint is None or not ratio or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Tracer()
    # OpenTelemetry is imported only where it is used
    from inference.span_export import BoundedExport, otlp
    from inference.spans import SpanTracer

    return SpanTracer(
        BoundedExport(otlp(endpoint), dropped),
        ratio=ratio,
        group=group,
        answer_topic=answer_topic,
        resource={"service.version": version, "service.instance.id": instance},
        invalid=invalid,
    )

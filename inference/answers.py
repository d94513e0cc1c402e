"""What goes back to Kafka: answers and dead letters, with the message's key and headers carried through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from inference.outcome import DeadLetter, Outcome, Predicted
from inference.record import Header, Record
from inference.wire import JSON_TYPE

CONTENT_TYPE = "content-type"
CORRELATION_ID = "correlation-id"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send."""

    topic: str
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: tuple[Header, ...] = field(repr=False)


class AnswerWriter:
    """Encodes outcomes for the two topics."""

    def __init__(self, answer_topic: str, dead_letter_topic: str) -> None:
        self._answer_topic = answer_topic
        self._dead_letter_topic = dead_letter_topic

    def encode(self, outcome: Outcome) -> Outgoing:
        """An answer with the request id as its key, or a dead letter."""
        if isinstance(outcome, DeadLetter):
            return dead_letter(outcome, self._dead_letter_topic)
        return Outgoing(
            self._answer_topic,
            outcome.request.request_id.encode(),
            msgspec.json.encode(answer(outcome)),
            _carried(outcome.record, outcome.request.correlation_id),
        )


def answer(outcome: Predicted) -> dict[str, Any]:
    """The answer's fields. Where the model's output cannot be used, `prediction` and its figures are null."""
    prediction = outcome.prediction
    probabilities = prediction.probabilities
    fields: dict[str, Any] = {
        "schema_version": 1,
        "request_id": outcome.request.request_id,
        "model_version": prediction.model_version,
        "route": prediction.route,
        "prediction": prediction.label,
        "confidence": prediction.confidence,
        "probabilities": None
        if probabilities is None
        else {name: float(p) for name, p in zip(prediction.classes, probabilities, strict=True)},
        "modalities": {name: part.status for name, part in outcome.modalities.items()},
        "degraded": outcome.degraded,
        "latency_ms": {
            "queue": round(outcome.queue_ms, 3),
            "preprocess": round(outcome.preprocess_ms, 3),
            "encode": round(prediction.encode_ms, 3),
            "fuse": round(prediction.fuse_ms, 3),
            "total": round(outcome.total_ms, 3),
        },
    }
    if prediction.attention is not None:
        fields["attention"] = prediction.attention.round(4).tolist()
    if outcome.request.correlation_id is not None:
        fields["correlation_id"] = outcome.request.correlation_id
    if prediction.error is not None:
        fields["error_code"] = prediction.error
    return fields


def dead_letter(letter: DeadLetter, topic: str) -> Outgoing:
    """The original bytes, key and headers, and where the message lay and why it was refused."""
    record = letter.record
    added = {
        "error-code": letter.refusal.code,
        "error-detail": letter.refusal.detail,
        "origin-topic": record.topic,
        "origin-partition": str(record.partition),
        "origin-offset": str(record.offset),
    }
    headers = (*record.headers, *((name, value.encode()) for name, value in added.items()))
    return Outgoing(topic, record.key, record.value, headers)


def _carried(record: Record, correlation_id: str | None) -> tuple[Header, ...]:
    kept = [header for header in record.headers if header[0].lower() != CONTENT_TYPE]
    if correlation_id is not None and record.header(CORRELATION_ID) is None:
        kept.append((CORRELATION_ID, correlation_id.encode()))
    return (*kept, (CONTENT_TYPE, JSON_TYPE.encode()))

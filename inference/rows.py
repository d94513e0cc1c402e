"""The log rows of predicted requests, column by column: what is stored of a request, and nothing of its input."""

from __future__ import annotations

from collections.abc import Sequence

from inference.outcome import Predicted
from inference.pgcopy import Fields, arrays, digests, documents, flags, integers, moments, numbers, texts


def prediction_columns(rows: Sequence[Predicted], now: str) -> dict[str, Fields]:
    """Columns of `prediction_log`, N fields each for N rows; `now` is the field of `logged_at`."""
    predictions = [row.prediction for row in rows]
    requests = [row.request for row in rows]
    records = [row.record for row in rows]
    return {
        "request_id": texts([request.request_id for request in requests]),
        "logged_at": [now] * len(rows),
        "produced_at": moments(request.produced_at for request in requests),
        "topic": texts([record.topic for record in records]),
        "partition": integers(record.partition for record in records),
        "offset": integers(record.offset for record in records),
        "schema_version": integers(request.schema_version for request in requests),
        "model_version": texts([prediction.model_version for prediction in predictions]),
        "route": texts([prediction.route for prediction in predictions]),
        "status": ["ok" if prediction.error is None else "error" for prediction in predictions],
        "error_code": texts([prediction.error for prediction in predictions]),
        "prediction": texts([prediction.label for prediction in predictions]),
        "confidence": numbers([prediction.confidence for prediction in predictions]),
        "probabilities": arrays(prediction.probabilities for prediction in predictions),
        "agreement": flags(prediction.agreement for prediction in predictions),
        "degraded": flags(row.degraded for row in rows),
        "quarantine": texts([row.quarantine for row in rows]),
        "queue_ms": numbers([row.queue_ms for row in rows]),
        "preprocess_ms": numbers([row.preprocess_ms for row in rows]),
        "encode_ms": numbers([prediction.encode_ms for prediction in predictions]),
        "fuse_ms": numbers([prediction.fuse_ms for prediction in predictions]),
        "total_ms": numbers([row.total_ms for row in rows]),
        "correlation_id": texts([request.correlation_id for request in requests]),
        "source": texts([request.source for request in requests]),
    }


def modality_columns(rows: Sequence[Predicted], now: str, key_id: str) -> dict[str, Fields]:
    """Columns of `modality_log`: a row for each modality of each request that was expected or sent."""
    named = [(row.request.request_id, name, part) for row in rows for name, part in row.modalities.items()]
    parts = [part for _, _, part in named]
    return {
        "request_id": texts([request_id for request_id, _, _ in named]),
        "modality": texts([name for _, name, _ in named]),
        "logged_at": [now] * len(named),
        "status": texts([part.status for part in parts]),
        "reason": texts([part.reason for part in parts]),
        "digest": digests(part.digest for part in parts),
        "key_id": texts([None if part.digest is None else part.key_id or key_id for part in parts]),
        "captured_at": moments(part.captured_at for part in parts),
        "quality": documents(part.quality for part in parts),
    }

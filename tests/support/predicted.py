"""Predicted requests as the recorder gets them, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from inference.modalities.base import Status
from inference.outcome import ModalityOutcome, Predicted, Prediction
from inference.record import Record
from inference.request import Request

TOPIC = "fusion.requests"
CLASSES = ("circle", "cross", "heart", "moon", "square", "star")
VERSION = "9f86d081884c7d65"
QUALITY = {
    "image": ("brightness", "contrast", "saturation", "sharpness", "noise"),
    "text": ("pieces", "unknown_share", "pieces_per_word", "unusual_share"),
}
AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def predicted(request_id: str, offset: int = 0, rng: np.random.Generator | None = None) -> Predicted:
    """An answered request with an image and a text, and numbers as long as a model's."""
    rng = rng or np.random.default_rng(offset)
    probabilities = rng.dirichlet(np.ones(len(CLASSES))).astype(np.float32)
    quality = {name: rng.random(len(names)).astype(np.float32) for name, names in QUALITY.items()}
    queue, preprocess, encode, fuse, total = (30 * rng.random(5)).tolist()
    best = int(probabilities.argmax())
    prediction = Prediction(
        model_version=VERSION,
        classes=CLASSES,
        route="fused",
        error=None,
        label=CLASSES[best],
        confidence=float(probabilities[best]),
        probabilities=probabilities,
        agreement=True,
        embeddings={name: rng.standard_normal(8).astype(np.float32) for name in (*QUALITY, "fused")},
        quality=quality,
        preprocess_ms=preprocess,
        encode_ms=encode,
        fuse_ms=fuse,
    )
    return Predicted(
        record=Record(TOPIC, 0, offset, b"key", b"raw", (), 100.0, AT),
        request=Request(request_id, 1, AT, None, "camera-1", {}, None),
        modalities={
            name: ModalityOutcome(
                Status.PRESENT, None, rng.bytes(32), None, dict(zip(names, quality[name].tolist(), strict=True))
            )
            for name, names in QUALITY.items()
        },
        prediction=prediction,
        degraded=False,
        quarantine=None,
        queue_ms=queue,
        preprocess_ms=preprocess,
        total_ms=total,
    )


def too_large(row: Predicted) -> Predicted:
    """The same with a number that no column can hold."""
    return replace(row, total_ms=1e300)


class NoSummaries:
    """A summariser of nothing, for tests of the rows alone."""

    def preview(self, _rows: Any, /) -> NoSummaries:
        return self

    def rows(self, _now: datetime, /) -> list[dict[str, Any]]:
        return []

    def embeddings(self) -> list[dict[str, Any]]:
        return []

    def commit(self, preview: Any) -> None:
        pass

    def forget(self, topic: str, partition: int) -> None:
        pass


FINGERPRINTS: Mapping[str, str] = {"image": "i", "text": "t", "fused": "f"}

"""What becomes of a message: a prediction that is answered, logged and summarised, or a dead letter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from inference.errors import Code, Refusal
from inference.modalities.base import Status
from inference.record import Record
from inference.request import Request

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one request, or the code of why it must not be used.

    `probabilities` is (C,) float32 in the order of `classes`. `embeddings` maps each present modality and
    `fused` to a (d,) vector, `quality` each present modality to its (Q,) statistics. Milliseconds are those of the
    whole batch: a request waits for its batch-mates. `encoders_ms` tells `encode_ms` by modality, where that
    is known; `compute_ms` is the request's share of the time that the model spent on its batch. `attention`
    (queries, keys) is there where the worker asks for it and the request was fused; `contribution` tells, of a sample
    of requests, how much confidence is lost without each modality; `contribution_ms` is what its batch took for that.
    `cascaded` says that the cascade chose whether it was fused: such answers do not stand for all requests.
    """

    model_version: str
    classes: tuple[str, ...]
    route: str
    error: Code | None
    label: str | None
    confidence: float | None
    probabilities: Vector | None = field(repr=False)
    agreement: bool | None
    embeddings: Mapping[str, Vector] = field(repr=False)
    quality: Mapping[str, Vector] = field(repr=False)
    preprocess_ms: float
    encode_ms: float
    fuse_ms: float
    compute_ms: float = 0.0
    attention: NDArray[np.float16] | None = field(default=None, repr=False)
    encoders_ms: Mapping[str, float] = field(default_factory=dict)
    contribution: Mapping[str, float] = field(default_factory=dict)
    contribution_ms: float = 0.0
    cascaded: bool = False


@dataclass(frozen=True, slots=True)
class ModalityOutcome:
    """What became of one modality of a request. `digest` is None where nothing was sent.

    `key_id` names the key that made the digest, where it was not this program's own; `preprocess_ms` was spent
    decoding and preparing the modality.
    """

    status: Status
    reason: str | None
    digest: bytes | None = field(repr=False)
    captured_at: datetime | None
    quality: Mapping[str, float]
    key_id: str | None = None
    preprocess_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Predicted:
    """A request that the model was asked about: what is answered, logged and summarised.

    `quarantine` says why the row is kept out of windows. `embeddings` of `prediction` are raw encoder outputs.
    """

    record: Record
    request: Request
    modalities: Mapping[str, ModalityOutcome]
    prediction: Prediction
    degraded: bool
    quarantine: str | None
    queue_ms: float
    preprocess_ms: float
    total_ms: float

    def embedding(self, name: str) -> Vector | None:
        """The (d,) embedding of a present modality or of `fused`; None where there is none."""
        return self.prediction.embeddings.get(name)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that gets no answer, with the reason."""

    record: Record
    refusal: Refusal


Outcome = Predicted | DeadLetter

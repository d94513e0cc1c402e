"""Predictions of inputs that came before, known by their digests."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from inference.outcome import Prediction

CACHED = "cached"
# What a prediction holds beside its arrays: names, times, dictionaries.
OVERHEAD_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class CacheKey:
    """A model version and the digests of all that it was given, by modality."""

    model_version: str
    digests: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, model_version: str, digests: Mapping[str, bytes]) -> CacheKey:
        """The key of one request's present modalities."""
        return cls(model_version, tuple(sorted(digests.items())))


class PredictionCache:
    """The most recently used predictions, bounded by bytes. Safe for several threads.

    An equal digest is an equal input (HMAC-SHA-256), so a hit needs no decoding and no model: class probabilities,
    embeddings and quality statistics are those of the first time.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        self._max_bytes = max_bytes
        self._bytes = 0
        self._held: OrderedDict[CacheKey, tuple[Prediction, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: CacheKey) -> Prediction | None:
        """The prediction with the route `cached` and no time spent in a model; None where there is none."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
        return found[0]

    def put(self, key: CacheKey, prediction: Prediction) -> None:
        """Keep a prediction that may be given again: one that used every modality and is no error."""
        kept = replace(
            prediction,
            route=CACHED,
            preprocess_ms=0.0,
            encode_ms=0.0,
            fuse_ms=0.0,
            compute_ms=0.0,
            encoders_ms={},
            contribution={},
            contribution_ms=0.0,
        )
        size = _size(kept)
        with self._lock:
            if key in self._held or size > self._max_bytes:
                return
            self._held[key] = (kept, size)
            self._bytes += size
            while self._bytes > self._max_bytes:
                _, (_, freed) = self._held.popitem(last=False)
                self._bytes -= freed


def _size(prediction: Prediction) -> int:
    arrays = [*prediction.embeddings.values(), *prediction.quality.values()]
    if prediction.probabilities is not None:
        arrays.append(prediction.probabilities)
    return OVERHEAD_BYTES + sum(np.asarray(array).nbytes for array in arrays)

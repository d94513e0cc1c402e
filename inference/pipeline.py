"""From a message to what a model takes, and from a model's word to an outcome: pure steps, one request at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.cache import CACHED, CacheKey, PredictionCache
from inference.clock import ClockTolerance
from inference.collate import length
from inference.errors import Code, Refusal
from inference.hashing import Hasher
from inference.modalities.base import MISSING, Decoded, Modality, Prepared, Status
from inference.models.card import ModelCard
from inference.outcome import DeadLetter, ModalityOutcome, Predicted, Prediction
from inference.record import Record
from inference.request import Given, Request, RequestParser

NOT_SENT = ModalityOutcome(MISSING.status, MISSING.reason, None, None, {})


@dataclass(frozen=True, slots=True)
class Ready:
    """A request whose modalities are decoded: the model is next.

    `inputs` holds what was prepared of each present modality, `known` the prediction where the same inputs were
    answered before. `request` has let go of its raw data. `decoded` tells by modality when its decoding began and
    ended (`time.monotonic`). `size` is in bytes, `length` the longest sequence.
    """

    record: Record
    request: Request
    modalities: Mapping[str, ModalityOutcome]
    inputs: Mapping[str, Prepared] = field(repr=False)
    known: Prediction | None = field(repr=False)
    key: CacheKey | None
    decoded: Mapping[str, tuple[float, float]]
    preprocess_ms: float
    size: int
    length: int


Opened = Ready | DeadLetter


class Opener:
    """Parses, digests and decodes messages. Safe for several threads; whatever a message holds, it does not raise."""

    def __init__(
        self,
        parser: RequestParser,
        modalities: Mapping[str, Modality],
        hasher: Hasher,
        cache: PredictionCache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parser = parser
        self._modalities = modalities
        self._hasher = hasher
        self._cache = cache
        self._clock = clock

    def open(self, record: Record, card: ModelCard) -> Opened:
        """What the model of `card` takes of a message, or why it takes nothing."""
        begun = self._clock()
        parsed = self._parser.parse(record)
        if isinstance(parsed, Refusal):
            return DeadLetter(record, parsed)
        digests = {name: self._hasher.digest(given.data) for name, given in parsed.modalities.items()}
        key = self._key(digests, card)
        known = self._cache.get(key) if self._cache is not None and key is not None else None
        if known is not None:
            modalities = {
                name: _outcome(Status.PRESENT, None, digests[name], given, self._quality(name, known.quality.get(name)))
                for name, given in parsed.modalities.items()
            }
            inputs: dict[str, Prepared] = {}
            times: dict[str, tuple[float, float]] = {}
        else:
            modalities, inputs, times = self._decode(parsed, digests, card)
            if not any(outcome.status is Status.PRESENT for outcome in modalities.values()):
                detail = ", ".join(
                    f"{name}: {part.status} ({part.reason})" for name, part in sorted(modalities.items())
                )
                return DeadLetter(record, Refusal(Code.NO_USABLE_MODALITY, detail))
        return Ready(
            record=record,
            request=parsed.without_data(),
            modalities=modalities,
            inputs=inputs,
            known=known,
            key=key,
            decoded=times,
            preprocess_ms=(self._clock() - begun) * 1000,
            size=sum(array.nbytes for part in inputs.values() for array in part.inputs.values()),
            length=length(inputs),
        )

    def _key(self, digests: Mapping[str, bytes], card: ModelCard) -> CacheKey | None:
        """The cache's key, where every modality of the model was sent and nothing else."""
        if self._cache is None or set(digests) != set(card.modalities):
            return None
        return CacheKey.of(card.version, digests)

    def _decode(
        self, request: Request, digests: Mapping[str, bytes], card: ModelCard
    ) -> tuple[dict[str, ModalityOutcome], dict[str, Prepared], dict[str, tuple[float, float]]]:
        """Each modality that was expected or sent and that the model takes; what was prepared of it, and when."""
        expected = set(card.modalities) if request.expected is None else set(request.expected)
        outcomes, inputs, times = {}, {}, {}
        for name in sorted((expected | request.modalities.keys()) & set(card.modalities)):
            given = request.modalities.get(name)
            if given is None:
                outcomes[name] = NOT_SENT
                continue
            begun = self._clock()
            decoded = _present(given.data) if card.raw else self._modalities[name].decode(given.data)
            quality: Mapping[str, float] = {}
            if decoded.status is Status.PRESENT:
                inputs.update(card.prepare({name: decoded.value}))
                quality = self._quality(name, inputs[name].quality)
            times[name] = begun, self._clock()
            spent = (times[name][1] - begun) * 1000
            outcomes[name] = _outcome(decoded.status, decoded.reason, digests[name], given, quality, spent)
        return outcomes, inputs, times

    def _quality(self, name: str, measured: Any) -> Mapping[str, float]:
        if measured is None or not len(measured):
            return {}
        return dict(zip(self._modalities[name].quality_names, map(float, measured), strict=True))


def _present(data: bytes | str) -> Decoded:
    """A modality that is taken as it is: present wherever there is something."""
    return Decoded(Status.PRESENT) if data else Decoded(Status.MISSING, "empty")


def _outcome(
    status: Status,
    reason: str | None,
    digest: bytes,
    given: Given,
    quality: Mapping[str, float],
    preprocess_ms: float = 0.0,
) -> ModalityOutcome:
    return ModalityOutcome(status, reason, digest, given.captured_at, quality, preprocess_ms=preprocess_ms)


def predicted(
    ready: Ready, prediction: Prediction, tolerance: ClockTolerance, *, submitted: float, now: float
) -> Predicted:
    """The outcome of a request that the model, or the cache, has answered.

    `submitted` and `now` are the process's monotonic clock: when the request left for the model, and this moment.
    """
    record, request = ready.record, ready.request
    expected = ready.modalities.keys() if request.expected is None else request.expected
    return Predicted(
        record=record,
        request=request,
        modalities=ready.modalities,
        prediction=prediction,
        degraded=any(
            ready.modalities[name].status is not Status.PRESENT for name in expected if name in ready.modalities
        ),
        quarantine=tolerance.quarantine(request.produced_at, record.received_at),
        queue_ms=max(0.0, (submitted - record.received) * 1000 - ready.preprocess_ms),
        preprocess_ms=ready.preprocess_ms,
        total_ms=max(0.0, (now - record.received) * 1000),
    )


def cacheable(ready: Ready, prediction: Prediction) -> bool:
    """Whether a prediction may be given again for the same digests."""
    whole = all(outcome.status is Status.PRESENT for outcome in ready.modalities.values())
    return ready.key is not None and whole and prediction.error is None and prediction.route != CACHED

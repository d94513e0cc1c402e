"""From messages to what a model takes, and from a model's word to an outcome: pure steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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

# Decoded values of a modality are prepared together, for what is done to one costs least right after the same was done
# to another; but no more of them than so many bytes, since a picture may be far larger than what is kept of it.
PREPARED_TOGETHER = 1_000_000


@dataclass(slots=True)
class _Opening:
    """A well-formed request on its way to the model."""

    record: Record
    request: Request
    digests: Mapping[str, bytes]
    key: CacheKey | None
    known: Prediction | None
    modalities: dict[str, ModalityOutcome] = field(default_factory=dict)
    inputs: dict[str, Prepared] = field(default_factory=dict)
    decoded: dict[str, tuple[float, float]] = field(default_factory=dict)


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

    def open(self, records: Sequence[Record], card: ModelCard) -> list[Opened]:
        """What the model of `card` takes of each message, or why it takes nothing.

        The messages of a call are ready together: each has the time of all of them as its `preprocess_ms`.
        """
        begun = self._clock()
        read = [self._read(record, card) for record in records]
        fresh = [each for each in read if isinstance(each, _Opening) and each.known is None]
        for name in card.modalities:
            self._decode(name, fresh, card)
        spent = (self._clock() - begun) * 1000
        return [each if isinstance(each, DeadLetter) else _ready(each, spent) for each in read]

    def _read(self, record: Record, card: ModelCard) -> _Opening | DeadLetter:
        parsed = self._parser.parse(record)
        if isinstance(parsed, Refusal):
            return DeadLetter(record, parsed)
        digests = {name: self._hasher.digest(given.data) for name, given in parsed.modalities.items()}
        key = self._key(digests, card)
        known = self._cache.get(key) if self._cache is not None and key is not None else None
        opening = _Opening(record, parsed, digests, key, known)
        if known is not None:
            opening.modalities = {
                name: _outcome(Status.PRESENT, None, digests[name], given, self._quality(name, known.quality.get(name)))
                for name, given in parsed.modalities.items()
            }
        return opening

    def _key(self, digests: Mapping[str, bytes], card: ModelCard) -> CacheKey | None:
        """The cache's key, where every modality of the model was sent and nothing else."""
        if self._cache is None or set(digests) != set(card.modalities):
            return None
        return CacheKey.of(card.version, digests)

    def _decode(self, name: str, openings: Sequence[_Opening], card: ModelCard) -> None:
        """Fill in one modality where it was expected or sent."""
        waiting: list[tuple[_Opening, Given, Decoded]] = []
        begun, size = self._clock(), 0
        for opening in openings:
            given = opening.request.modalities.get(name)
            if given is None:
                expected = opening.request.expected
                if expected is None or name in expected:
                    opening.modalities[name] = NOT_SENT
                continue
            decoded = _present(given.data)
            if not card.raw:
                decoded = card.fitting(name, self._modalities[name].decode(given.data))
            waiting.append((opening, given, decoded))
            size += getattr(decoded.value, "nbytes", 0)
            if size > PREPARED_TOGETHER:
                self._prepare(name, waiting, card, begun)
                waiting, begun, size = [], self._clock(), 0
        if waiting:
            self._prepare(name, waiting, card, begun)

    def _prepare(
        self, name: str, waiting: Sequence[tuple[_Opening, Given, Decoded]], card: ModelCard, begun: float
    ) -> None:
        usable = [(opening, each.value) for opening, _, each in waiting if each.status is Status.PRESENT]
        prepared = card.prepare_all(name, [value for _, value in usable])
        for (opening, _), each in zip(usable, prepared, strict=True):
            opening.inputs[name] = each
        ended = self._clock()
        spent = (ended - begun) * 1000 / len(waiting)
        for opening, given, decoded in waiting:
            inputs = opening.inputs.get(name)
            quality = {} if inputs is None else self._quality(name, inputs.quality)
            opening.modalities[name] = _outcome(
                decoded.status, decoded.reason, opening.digests[name], given, quality, spent
            )
            opening.decoded[name] = begun, ended

    def _quality(self, name: str, measured: Any) -> Mapping[str, float]:
        if measured is None or not len(measured):
            return {}
        return dict(zip(self._modalities[name].quality_names, map(float, measured), strict=True))


def _ready(opening: _Opening, preprocess_ms: float) -> Opened:
    if not any(outcome.status is Status.PRESENT for outcome in opening.modalities.values()):
        detail = ", ".join(
            f"{name}: {part.status} ({part.reason})" for name, part in sorted(opening.modalities.items())
        )
        return DeadLetter(opening.record, Refusal(Code.NO_USABLE_MODALITY, detail))
    return Ready(
        record=opening.record,
        request=opening.request.without_data(),
        modalities=opening.modalities,
        inputs=opening.inputs,
        known=opening.known,
        key=opening.key,
        decoded=opening.decoded,
        preprocess_ms=preprocess_ms,
        size=sum(array.nbytes for part in opening.inputs.values() for array in part.inputs.values()),
        length=length(opening.inputs),
    )


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

"""A batch of messages through parsing, decoding and the model: every message ends as a row or as a dead letter."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from inference.clock import ClockTolerance
from inference.direct import DirectPredictor as Predictor
from inference.errors import Code, Refusal
from inference.hashing import Hasher
from inference.modalities.base import MISSING, Decoded, Modality, Status
from inference.outcome import DeadLetter, ModalityOutcome, Outcome, Predicted, Prediction
from inference.record import Record
from inference.request import Request, RequestParser


class Pipeline:
    """Turns records into outcomes. `predictor` is asked for once a batch: a model is swapped between batches."""

    def __init__(
        self,
        parser: RequestParser,
        modalities: Mapping[str, Modality],
        hasher: Hasher,
        predictor: Callable[[], Predictor],
        tolerance: ClockTolerance,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parser = parser
        self._modalities = modalities
        self._hasher = hasher
        self._predictor = predictor
        self._tolerance = tolerance
        self._clock = clock

    def run(self, records: Sequence[Record]) -> list[Outcome]:
        """One outcome for each record, in order. Whatever a message holds, this does not raise."""
        predictor = self._predictor()
        begun = self._clock()
        outcomes: dict[int, Outcome] = {}
        waiting: list[tuple[int, Request, dict[str, Decoded]]] = []
        for index, record in enumerate(records):
            parsed = self._parser.parse(record)
            if isinstance(parsed, Refusal):
                outcomes[index] = DeadLetter(record, parsed)
                continue
            decoded = self._decode(parsed, predictor)
            if not any(part.status is Status.PRESENT for part in decoded.values()):
                detail = ", ".join(f"{name}: {part.status} ({part.reason})" for name, part in sorted(decoded.items()))
                outcomes[index] = DeadLetter(record, Refusal(Code.NO_USABLE_MODALITY, detail))
                continue
            waiting.append((index, parsed, decoded))
        decode_ms = (self._clock() - begun) * 1000
        inputs = [
            {name: part.value for name, part in decoded.items() if part.status is Status.PRESENT}
            for _, _, decoded in waiting
        ]
        predictions = predictor.predict(inputs)
        for (index, request, decoded), prediction in zip(waiting, predictions, strict=True):
            outcomes[index] = self._predicted(records[index], request, decoded, prediction, begun, decode_ms)
        return [outcomes[index] for index in range(len(records))]

    def _decode(self, request: Request, predictor: Predictor) -> dict[str, Decoded]:
        """Each modality that was expected or sent and that the model takes."""
        expected = predictor.modalities.keys() if request.expected is None else set(request.expected)
        wanted = (expected | request.modalities.keys()) & predictor.modalities.keys()
        return {
            name: self._modalities[name].decode(request.modalities[name].data)
            if name in request.modalities
            else MISSING
            for name in sorted(wanted)
        }

    def _predicted(
        self,
        record: Record,
        request: Request,
        decoded: Mapping[str, Decoded],
        prediction: Prediction,
        begun: float,
        decode_ms: float,
    ) -> Predicted:
        expected = decoded.keys() if request.expected is None else request.expected
        return Predicted(
            record=record,
            request=request,
            modalities={name: self._outcome(name, part, request, prediction) for name, part in decoded.items()},
            prediction=prediction,
            degraded=any(name in decoded and decoded[name].status is not Status.PRESENT for name in expected),
            quarantine=self._tolerance.quarantine(request.produced_at, record.received_at),
            queue_ms=max(0.0, (begun - record.received) * 1000),
            preprocess_ms=decode_ms + prediction.preprocess_ms,
            total_ms=max(0.0, (self._clock() - record.received) * 1000),
        )

    def _outcome(self, name: str, part: Decoded, request: Request, prediction: Prediction) -> ModalityOutcome:
        given = request.modalities.get(name)
        measured = prediction.quality.get(name)
        names = self._modalities[name].quality_names
        return ModalityOutcome(
            status=part.status,
            reason=part.reason,
            digest=self._hasher.digest(given.data) if given is not None else None,
            captured_at=given.captured_at if given is not None else None,
            quality={} if measured is None else dict(zip(names, map(float, measured), strict=True)),
        )

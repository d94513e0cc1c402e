"""The two threads around the model: one forms batches and submits them, the other answers what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from inference.answers import AnswerWriter
from inference.batching import MicroBatcher
from inference.cache import PredictionCache
from inference.clock import ClockTolerance
from inference.engine import Engine
from inference.errors import Refusal
from inference.inflight import InFlight
from inference.outcome import DeadLetter, Outcome, Prediction
from inference.pipeline import Opened, Ready, cacheable, predicted
from inference.publisher import NOTHING, Publisher
from inference.serving import Serving
from inference.stages.channel import Channel, EndedError
from inference.stages.parcel import Answered, Batch, Polled
from inference.tracing import BatchTrace, Tracer


class BatchStage:
    """Collects opened messages into batches by size, age and padded length, and hands them to the model.

    A full batch leaves at once, to lie ready when the model ends the one before. One that is due by age alone leaves
    when the model is idle: until then it would only wait elsewhere, where nothing can join it.
    """

    def __init__(
        self,
        source: Channel[Polled],
        target: Channel[Batch],
        *,
        batch: MicroBatcher[Opened],
        engine: Engine,
        inflight: InFlight,
        tracer: Tracer,
    ) -> None:
        """`source` must be nudged when the model has ended a batch.

        `target` bounds how many batches are under way: it blocks, and the batch in hand grows meanwhile.
        """
        self._source = source
        self._target = target
        self._batch = batch
        self._engine = engine
        self._inflight = inflight
        self._tracer = tracer
        self._size = 0
        self._serving: Serving | None = None
        self._epoch = 0

    def run(self) -> None:
        """Work until the source ends, then send what is in hand."""
        try:
            while True:
                waits = self._batch.remaining if len(self._batch) and not self._batch.due else None
                polled = self._source.get(waits)
                if polled is not None:
                    self._take(polled)
                if self._batch.full or (self._batch.due and self._idle):
                    self._send()
        except EndedError:
            self._send()
            self._target.end()

    @property
    def _idle(self) -> bool:
        return self._serving is None or self._serving.model.outstanding == 0

    def _take(self, polled: Polled) -> None:
        opened = polled.opened.result()
        if polled.serving is not self._serving or polled.epoch != self._epoch:
            self._send()
            self._serving, self._epoch = polled.serving, polled.epoch
        for message in opened:
            length = message.length if isinstance(message, Ready) else 0
            if not self._batch.fits(length):
                self._send()
            grown = message.size if isinstance(message, Ready) else 0
            self._inflight.add(0, grown)
            self._size += grown + len(message.record.value or b"")
            self._batch.add(message, length)

    def _send(self) -> None:
        opened, size, self._size = self._batch.take(), self._size, 0
        if not opened or self._serving is None:
            return
        rows = [message.inputs for message in opened if isinstance(message, Ready) and message.known is None]
        trace = self._trace(opened)
        ticket = self._engine.submit(self._serving, rows) if rows else None
        self._target.put(Batch(opened, self._serving, self._epoch, size, ticket, time.monotonic(), trace))

    def _trace(self, opened: Sequence[Opened]) -> BatchTrace:
        first = opened[0].record
        trace = self._tracer.batch(first.topic, [message.record for message in opened], first.received)
        if trace.recording:
            times: dict[str, list[tuple[float, float]]] = {}
            for message in opened:
                if isinstance(message, Ready):
                    for name, span in message.decoded.items():
                        times.setdefault(name, []).append(span)
            trace.decoded({name: (min(spans)[0], max(end for _, end in spans)) for name, spans in times.items()})
        return trace


class AnswerStage:
    """Collects predictions, starts sending the answers, and closes a model once its successor has answered."""

    def __init__(
        self,
        source: Channel[Batch],
        target: Channel[Answered],
        *,
        engine: Engine,
        answers: AnswerWriter,
        publisher: Publisher,
        tolerance: ClockTolerance,
        epoch: Callable[[], int],
        cache: PredictionCache | None = None,
    ) -> None:
        """`epoch` tells the current assignment epoch: batches of an older one are not answered."""
        self._source = source
        self._target = target
        self._engine = engine
        self._answers = answers
        self._publisher = publisher
        self._tolerance = tolerance
        self._epoch = epoch
        self._cache = cache
        self._serving: Serving | None = None

    def run(self) -> None:
        """Work until the source ends."""
        try:
            while True:
                batch = self._source.get()
                if batch is not None:
                    self._answer(batch)
        except EndedError:
            self._target.end()

    def _answer(self, batch: Batch) -> None:
        results = self._engine.collect(batch.ticket) if batch.ticket is not None else []
        if batch.serving is not self._serving:
            if self._serving is not None:
                self._serving.close()
            self._serving = batch.serving
        outcomes = self._outcomes(batch, results)
        if batch.trace.recording and (first := _first_prediction(results)) is not None:
            # what is measured for statistics comes last, and is no part of the pass
            batch.trace.forward(time.monotonic() - first.contribution_ms / 1000, first.encoders_ms, first.fuse_ms)
        sending = NOTHING
        if batch.epoch == self._epoch():
            messages = [self._answers.encode(outcome) for outcome in outcomes]
            sending = self._publisher.start(batch.trace.sending(messages))
        self._target.put(Answered(outcomes, batch.epoch, batch.size, sending, batch.trace))

    def _outcomes(self, batch: Batch, results: Sequence[Prediction | Refusal]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        remaining = iter(results)
        now = time.monotonic()
        for message in batch.opened:
            if isinstance(message, DeadLetter):
                outcomes.append(message)
                continue
            result = message.known if message.known is not None else next(remaining)
            if isinstance(result, Refusal):
                outcomes.append(DeadLetter(message.record, result))
                continue
            if self._cache is not None and message.key is not None and cacheable(message, result):
                self._cache.put(message.key, result)
            outcomes.append(predicted(message, result, self._tolerance, submitted=batch.submitted, now=now))
        return outcomes


def _first_prediction(results: Sequence[Prediction | Refusal]) -> Prediction | None:
    return next((result for result in results if isinstance(result, Prediction)), None)

"""The two threads around the model: one forms batches and submits them, the other answers what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from inference.answers import AnswerWriter
from inference.batching import MicroBatcher
from inference.cache import PredictionCache
from inference.challenger import Arm
from inference.clock import ClockTolerance
from inference.courtesy import Courtesy
from inference.engine import Engine
from inference.errors import Refusal
from inference.inflight import InFlight
from inference.outcome import DeadLetter, Outcome, Prediction
from inference.pipeline import Opened, Ready, cacheable, predicted
from inference.publisher import NOTHING, Publisher, Sending
from inference.serving import Serving
from inference.stages.channel import Channel, EndedError
from inference.stages.parcel import Answered, Batch, Guests, Polled
from inference.tracing import BatchTrace, Tracer


class BatchStage:
    """Collects opened messages into batches by size, age and padded length, and hands them to the model.

    A full batch leaves at once, to lie ready when the model ends the one before. One that is due by age alone leaves
    when the model is idle, until then it would only wait elsewhere, where nothing can join it; and when nothing else
    has been read: of a backlog, whole batches are the faster ones.
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
        courtesy: Courtesy,
        canary: Callable[[], Arm | None] = lambda: None,
    ) -> None:
        """`source` must be nudged when the model has ended a batch. `canary` tells the challenger that has a share.

        `target` bounds how many batches are under way: it blocks, and the batch in hand grows meanwhile.
        """
        self._source = source
        self._target = target
        self._batch = batch
        self._engine = engine
        self._inflight = inflight
        self._tracer = tracer
        self._courtesy = courtesy
        self._canary = canary
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
                if self._batch.full or (self._batch.due and self._idle and not len(self._source)):
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
            self._batch.add(message, length, since=polled.since)

    def _send(self) -> None:
        opened, size, self._size = self._batch.take(), self._size, 0
        if opened and self._serving is not None:
            with self._courtesy:
                batch = self._submitted(opened, size, self._serving)
            self._target.put(batch)

    def _submitted(self, opened: Sequence[Opened], size: int, serving: Serving) -> Batch:
        arm = self._canary()
        places = () if arm is None else _places(arm, opened)
        theirs = set(places)
        own = [message for at, message in enumerate(opened) if at not in theirs] if theirs else opened
        rows = [message.inputs for message in own if isinstance(message, Ready) and message.known is None]
        trace = self._trace(opened)
        ticket = self._engine.submit(serving, rows) if rows else None
        guests = None if arm is None else self._guests(arm, places, opened)
        return Batch(opened, serving, self._epoch, size, ticket, time.monotonic(), trace, guests)

    def _guests(self, arm: Arm, places: Sequence[int], opened: Sequence[Opened]) -> Guests:
        """The challenger's rows of a batch, handed over. What was answered before is asked of it anew."""
        rows = [message.inputs for at in places if isinstance(message := opened[at], Ready)]
        ticket = self._engine.submit(arm.serving, rows, guest=True) if rows else None
        return Guests(arm, places, ticket)

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
        courtesy: Courtesy,
        cache: PredictionCache | None = None,
        released: Callable[[Serving], None] = lambda serving: serving.close(),
        give_up: Callable[[Arm, str], None] = lambda _arm, _why: None,
        shadow: Callable[[Sequence[Opened], Sequence[Outcome]], None] = lambda _opened, _outcomes: None,
    ) -> None:
        """`epoch` tells the current assignment epoch: batches of an older one are not answered.

        `released` takes a model that no batch uses any more, `give_up` a challenger that failed, `shadow` what was
        answered.
        """
        self._source = source
        self._target = target
        self._engine = engine
        self._answers = answers
        self._publisher = publisher
        self._tolerance = tolerance
        self._epoch = epoch
        self._courtesy = courtesy
        self._cache = cache
        self._released = released
        self._give_up = give_up
        self._shadow = shadow
        self._used: tuple[Serving, ...] = ()

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
        guests = {} if batch.guests is None else self._of_guests(batch, batch.guests)
        with self._courtesy:
            outcomes, sending = self._sent(batch, results, guests)
        self._target.put(Answered(outcomes, batch.epoch, batch.size, sending, batch.trace))
        if batch.guests is None:
            self._shadow(batch.opened, outcomes)

    def _sent(
        self, batch: Batch, results: Sequence[Prediction | Refusal], guests: Mapping[int, Prediction | Refusal]
    ) -> tuple[list[Outcome], Sending]:
        self._follow(batch)
        outcomes = self._outcomes(batch, results, guests)
        if batch.trace.recording and (first := _first_prediction(results)) is not None:
            # what is measured for statistics comes last, and is no part of the pass
            batch.trace.forward(time.monotonic() - first.contribution_ms / 1000, first.encoders_ms, first.fuse_ms)
        sending = NOTHING
        if batch.epoch == self._epoch():
            messages = [self._answers.encode(outcome) for outcome in outcomes]
            sending = self._publisher.start(batch.trace.sending(messages))
        return outcomes, sending

    def _follow(self, batch: Batch) -> None:
        """Let go of models of which this is the first batch without them: batches come in order."""
        used = (batch.serving,) if batch.guests is None else (batch.serving, batch.guests.arm.serving)
        if used != self._used:
            for before in self._used:
                if not any(before is now for now in used):
                    self._released(before)
            self._used = used

    def _of_guests(self, batch: Batch, guests: Guests) -> Mapping[int, Prediction | Refusal]:
        """By place what the challenger says, or the champion where the challenger fails: no request is lost to it."""
        if guests.ticket is None:
            return {}
        found: Sequence[Prediction | Refusal] | None = self._engine.collect_guest(guests.ticket)
        if found is None:
            self._give_up(guests.arm, "it could not run a batch, or did not answer in time")
            found = self._engine.run_apart(batch.serving, guests.ticket.rows)
        return dict(zip(guests.places, found, strict=True))

    def _outcomes(
        self, batch: Batch, results: Sequence[Prediction | Refusal], guests: Mapping[int, Prediction | Refusal]
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        remaining = iter(results)
        now = time.monotonic()
        for at, message in enumerate(batch.opened):
            if isinstance(message, DeadLetter):
                outcomes.append(message)
                continue
            guest = guests.get(at)
            result = guest or (message.known if message.known is not None else next(remaining))
            if isinstance(result, Refusal):
                outcomes.append(DeadLetter(message.record, result))
                continue
            if self._cache is not None and guest is None and message.key is not None and cacheable(message, result):
                self._cache.put(message.key, result)
            outcomes.append(predicted(message, result, self._tolerance, submitted=batch.submitted, now=now))
        return outcomes


def _places(arm: Arm, opened: Sequence[Opened]) -> list[int]:
    """The places of the requests that are a challenger's, those that can be run."""
    return [
        at
        for at, message in enumerate(opened)
        if isinstance(message, Ready) and message.inputs and arm.takes(message.request.request_id)
    ]


def _first_prediction(results: Sequence[Prediction | Refusal]) -> Prediction | None:
    return next((result for result in results if isinstance(result, Prediction)), None)

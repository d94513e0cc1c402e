"""The request path's stages in one thread and without a broker: records in, outcomes out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inference.answers import AnswerWriter, Outgoing
from inference.batching import MicroBatcher
from inference.cache import PredictionCache
from inference.clock import ClockTolerance
from inference.courtesy import Courtesy
from inference.engine import Engine
from inference.hashing import Hasher
from inference.inflight import InFlight
from inference.modalities.base import modalities
from inference.model_io import ModelFailedError, ModelInput, ModelOutput
from inference.models.card import ModelCard
from inference.outcome import Outcome
from inference.pipeline import Opened, Opener
from inference.predictor import Predictor
from inference.publisher import NOTHING, Sending
from inference.record import Record
from inference.request import RequestParser
from inference.retry import Stop
from inference.stages.channel import Channel, EndedError
from inference.stages.forward import AnswerStage, BatchStage
from inference.stages.open import OpenStage
from inference.stages.parcel import Answered, Batch, Polled
from inference.tracing import Tracer
from tests.unit.inference.tiny import tiny_card, tiny_model_predictor

HASHER = Hasher("k1", b"k" * 32)


class LocalModel:
    """A model process's interface over a predictor of this process."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._waiting: deque[ModelInput] = deque()
        self.restarts = 0

    @property
    def outstanding(self) -> int:
        return len(self._waiting)

    def submit(self, batch: ModelInput) -> None:
        self._waiting.append(batch)

    def result(self, _seconds: float | None = None) -> ModelOutput:
        try:
            return self._predictor.run(self._waiting.popleft())
        except RuntimeError as error:
            raise ModelFailedError(str(error)) from error

    def restart(self) -> None:
        self.restarts += 1
        self._waiting.clear()

    def close(self) -> None:
        self._waiting.clear()


@dataclass
class LocalServing:
    """What the stages need of a `Serving`."""

    card: ModelCard
    model: Any

    def close(self) -> None:
        self.model.close()


class Kept:
    """A publisher that keeps what it was given."""

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []

    def start(self, messages: Sequence[Outgoing]) -> Sending:
        self.messages += messages
        return NOTHING


class LocalPath:
    """Opening, batching, the model and answering, one call at a time."""

    def __init__(
        self, predictor: Predictor | None = None, *, batch_size: int = 32, cache: PredictionCache | None = None
    ) -> None:
        self.model = LocalModel(predictor or tiny_model_predictor())
        self.serving: Any = LocalServing(tiny_card(), self.model)
        self.publisher = Kept()
        self.courtesy = Courtesy()
        self.inflight = InFlight(10_000, 10**9)
        self.batches: list[int] = []
        self._cache = cache
        self._batch_size = batch_size

    def run(self, records: Sequence[Record]) -> list[Outcome]:
        """One outcome for each record, in order."""
        opened: Channel[Polled] = Channel(10_000)
        batches: Channel[Batch] = Channel(10_000)
        answered: Channel[Answered] = Channel(10_000)
        publisher: Any = self.publisher
        parser = RequestParser({"image": bytes, "text": str})
        opener = Opener(parser, modalities(), HASHER, self._cache)
        opening = OpenStage(opener, opened, threads=2, most=self._batch_size, courtesy=self.courtesy)
        opening.submit(records, self.serving, epoch=0, since=time.monotonic())
        opening.end()
        engine = Engine(Stop(1.0), failed=lambda _: None, seconds=60.0)
        batch = MicroBatcher[Opened](self._batch_size, 10.0, time.monotonic)
        BatchStage(
            opened,
            batches,
            batch=batch,
            engine=engine,
            inflight=self.inflight,
            tracer=Tracer(),
            courtesy=self.courtesy,
        ).run()
        AnswerStage(
            batches,
            answered,
            engine=engine,
            answers=AnswerWriter("answers", "letters"),
            publisher=publisher,
            tolerance=ClockTolerance(),
            epoch=lambda: 0,
            courtesy=self.courtesy,
            cache=self._cache,
        ).run()
        opening.close()
        return self._outcomes(answered)

    def _outcomes(self, answered: Channel[Answered]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        try:
            while (parcel := answered.get()) is not None:
                self.batches.append(len(parcel.outcomes))
                outcomes += parcel.outcomes
        except EndedError:
            return outcomes
        raise AssertionError("a channel without a deadline gave nothing")

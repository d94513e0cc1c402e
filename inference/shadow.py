"""The challenger in shadow: a share of the champion's batches runs through it too, after they were answered.

It has a thread and a queue of its own, and nobody waits for it: where it falls behind, batches pass it by.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from inference import log
from inference.collate import collate
from inference.errors import InferenceError
from inference.judge import predictions
from inference.model_io import ModelFailedError
from inference.outcome import Outcome, Predicted, Prediction
from inference.pipeline import Opened, Ready
from inference.retry import Stop
from inference.rollouts import ShadowRow
from inference.serving import Serving

_log = logging.getLogger(__name__)
BATCHES_WAITING = 8
IDLE_SECONDS = 0.2


class ShadowArm(Protocol):
    """A challenger, and which batches are its share, by the id of their first request."""

    @property
    def serving(self) -> Serving: ...  # noqa: D102

    @property
    def rollout_id(self) -> int: ...  # noqa: D102

    def takes(self, request_id: str) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """Rows of one batch that the champion answered."""

    arm: ShadowArm
    rows: Sequence[tuple[Ready, Predicted]]


class Shadow:
    """Runs the challenger; not more than one at a time."""

    def __init__(self, write: Callable[[Sequence[ShadowRow]], None], stop: Stop, seconds: float) -> None:
        """`write` keeps rows in the database; a model that is silent for `seconds` is taken for hung."""
        self._write = write
        self._stop = stop
        self._seconds = seconds
        self._arm: ShadowArm | None = None
        self._running = threading.Lock()
        self._waiting: queue.Queue[_Seen] = queue.Queue(BATCHES_WAITING)
        self.broken: str | None = None

    def use(self, arm: ShadowArm | None) -> None:
        """Run this challenger from now on, or none; returns once nothing runs through the one before."""
        if arm is self._arm:
            return
        self._arm = arm
        with self._running:
            self.broken = None

    def offer(self, opened: Sequence[Opened], outcomes: Sequence[Outcome]) -> None:
        """A batch that was answered, with its outcomes in the same order. Returns at once."""
        arm = self._arm
        if arm is None:
            return
        rows = [
            (message, outcome)
            for message, outcome in zip(opened, outcomes, strict=True)
            if isinstance(message, Ready) and message.known is None
            if isinstance(outcome, Predicted) and outcome.prediction.error is None
        ]
        if rows and arm.takes(rows[0][0].request.request_id):
            try:
                self._waiting.put_nowait(_Seen(arm, rows))
            except queue.Full:
                _log.debug("the challenger is behind: a batch passes it by")

    def run(self) -> None:
        """Work until a stop is requested."""
        while not self._stop.requested:
            try:
                seen = self._waiting.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                continue
            with self._running:
                if seen.arm is not self._arm or self.broken is not None:
                    continue
                rows = self._run(seen)
            try:
                self._write(rows)
            except SQLAlchemyError as error:
                _log.warning("shadow rows were not kept", extra=log.fields(error=type(error).__name__))

    def _run(self, seen: _Seen) -> list[ShadowRow]:
        """The challenger's word on the rows; of a batch that it cannot run, that it cannot."""
        serving = seen.arm.serving
        inputs = [message.inputs for message, _ in seen.rows]
        said: list[Prediction | None]
        try:
            serving.model.submit(collate(inputs, serving.card.blanks))
            said = list(predictions(serving.card, inputs, serving.model.result(self._seconds)))
        except ModelFailedError:
            said = [None] * len(inputs)
        except InferenceError as error:
            self.broken = str(error)
            said = [None] * len(inputs)
        return [_row(seen.arm.rollout_id, outcome, each) for (_, outcome), each in zip(seen.rows, said, strict=True)]


def _row(rollout_id: int, champion: Predicted, said: Prediction | None) -> ShadowRow:
    answered = champion.prediction
    usable = said is not None and said.error is None
    return ShadowRow(
        rollout_id=rollout_id,
        request_id=champion.request.request_id,
        status="ok" if usable else "error",
        prediction=said.label if said is not None and usable else None,
        confidence=said.confidence if said is not None and usable else None,
        model_ms=said.encode_ms + said.fuse_ms if said is not None else None,
        champion_prediction=answered.label or "",
        champion_confidence=answered.confidence or 0.0,
        champion_model_ms=answered.encode_ms + answered.fuse_ms,
    )

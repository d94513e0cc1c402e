"""Runs batches on the model process. What the model cannot run is split until the culprit stands alone."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inference import log
from inference.collate import Row, collate
from inference.errors import Code, InferenceError, Refusal
from inference.judge import predictions
from inference.model_io import ModelDiedError, ModelFailedError, ModelOutput
from inference.models.card import CheckpointError
from inference.outcome import Prediction
from inference.retry import Stop, until_done
from inference.serving import Serving

_log = logging.getLogger(__name__)


class ModelUnwellError(InferenceError):
    """The model fails on a blank input, also after a new start: no request is to blame."""

    code = "model_unwell"


@dataclass(slots=True, eq=False)
class Ticket:
    """A batch that was handed to a model process. Once `done`, `answer` is its output, or None where it failed."""

    serving: Serving
    rows: Sequence[Row] = field(repr=False)
    guest: bool = False
    answer: ModelOutput | None = field(default=None, repr=False)
    done: bool = False


class Engine:
    """One thread submits, another collects in the same order."""

    def __init__(
        self,
        stop: Stop,
        failed: Callable[[str], None],
        seconds: float,
        freed: Callable[[], None] = lambda: None,
        guest_seconds: float = 5.0,
    ) -> None:
        """`failed` is told of each batch that failed and each process that died or, silent for `seconds`, was ended.

        `freed` is called whenever the model has ended a batch, by the thread that collects. A challenger is waited for
        during `guest_seconds`: it has batch-mates that the champion has answered long ago.
        """
        self._seconds = seconds
        self._guest_seconds = guest_seconds
        self._freed = freed
        self._stop = stop
        self._failed = failed
        self._outstanding: deque[Ticket] = deque()
        self._lock = threading.RLock()

    def submit(self, serving: Serving, rows: Sequence[Row], *, guest: bool = False) -> Ticket:
        """Hand B rows (one at least) to the model; returns before they are computed.

        A `guest` is a challenger: where it fails it is not started again, and its rows are for `collect_guest`.
        """
        ticket = Ticket(serving, rows, guest)
        batch = collate(rows, serving.card.blanks)
        with self._lock:
            try:
                serving.model.submit(batch)
            except ModelDiedError:
                ticket.done = True
            else:
                self._outstanding.append(ticket)
        return ticket

    def collect(self, ticket: Ticket) -> list[Prediction | Refusal]:
        """Wait for a ticket; one result for each row, in order. Tickets must be collected as they were submitted.

        Raises ModelUnwellError where the model cannot run at all, StoppingError at the drain deadline.
        """
        while not ticket.done:
            self._receive()
        if ticket.answer is not None:
            return list(predictions(ticket.serving.card, ticket.rows, ticket.answer))
        with self._lock:
            while self._outstanding:
                self._receive()
            results = self._split(ticket.serving, ticket.rows)
        self._freed()
        return results

    def collect_guest(self, ticket: Ticket) -> list[Prediction] | None:
        """Wait for a challenger's ticket, in turn with all others; None where it could not run its rows."""
        while not ticket.done:
            self._receive()
        return None if ticket.answer is None else list(predictions(ticket.serving.card, ticket.rows, ticket.answer))

    def run_apart(self, serving: Serving, rows: Sequence[Row]) -> list[Prediction | Refusal]:
        """Run rows that another model could not, after all that is under way. Raises as `collect` does."""
        with self._lock:
            while self._outstanding:
                self._receive()
            results = self._split(serving, rows)
        self._freed()
        return results

    def _receive(self) -> None:
        ticket = self._outstanding.popleft()
        try:
            ticket.answer = ticket.serving.model.result(self._guest_seconds if ticket.guest else self._seconds)
        except ModelFailedError as error:
            self._tell("batch", error)
        except ModelDiedError as error:
            self._tell("process", error)
            with self._lock:
                lost = [other for other in self._outstanding if other.serving is ticket.serving]
                for other in lost:
                    self._outstanding.remove(other)
                    other.done = True
                if not ticket.guest:
                    self._restart(ticket.serving)
        ticket.done = True
        self._freed()

    def _split(self, serving: Serving, rows: Sequence[Row]) -> list[Prediction | Refusal]:
        answer = self._attempt(serving, rows)
        if answer is not None:
            return list(predictions(serving.card, rows, answer))
        if len(rows) == 1:
            return [self._alone(serving, rows[0])]
        half = len(rows) // 2
        return self._split(serving, rows[:half]) + self._split(serving, rows[half:])

    def _alone(self, serving: Serving, row: Row) -> Prediction | Refusal:
        """A row that failed by itself: is it to blame, or is the model?"""
        blank = {name: serving.card.blanks[name] for name in row}
        if self._attempt(serving, [blank]) is not None:
            return Refusal(Code.MODEL_FAILED, "the model cannot run this request, also not alone")
        self._restart(serving)
        if self._attempt(serving, [blank]) is None:
            raise ModelUnwellError("the model fails on a blank input, also after a new start")
        answer = self._attempt(serving, [row])
        if answer is None:
            return Refusal(Code.MODEL_FAILED, "the model cannot run this request, also not alone")
        return predictions(serving.card, [row], answer)[0]

    def _attempt(self, serving: Serving, rows: Sequence[Row]) -> ModelOutput | None:
        batch = collate(rows, serving.card.blanks)
        try:
            try:
                serving.model.submit(batch)
            except ModelDiedError as error:  # it was dead before: these rows are not to blame
                self._tell("process", error)
                self._restart(serving)
                serving.model.submit(batch)
            return serving.model.result(self._seconds)
        except ModelFailedError as error:
            self._tell("batch", error)
        except ModelDiedError as error:
            self._tell("process", error)
            self._restart(serving)
        return None

    def _restart(self, serving: Serving) -> None:
        until_done(
            serving.model.restart,
            name="restarting the model",
            on=(CheckpointError, RuntimeError, OSError),
            stop=self._stop,
            failed=self._failed,
        )

    def _tell(self, what: str, error: Exception) -> None:
        self._failed(f"model {what}")
        _log.warning("the model could not run a batch", extra=log.fields(error=str(error)))

"""What passes between the stages: messages that were polled together and stay together until they are written."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from inference.challenger import Arm
from inference.engine import Ticket
from inference.outcome import Outcome
from inference.pipeline import Opened
from inference.publisher import Sending
from inference.record import Record
from inference.serving import Serving
from inference.tracing import BatchTrace


@dataclass(frozen=True, slots=True)
class Polled:
    """Messages on their way through the decoding pool, for the model `serving`, of one assignment epoch.

    `since` is the monotonic second from which on they could be read.
    """

    records: Sequence[Record] = field(repr=False)
    serving: Serving
    epoch: int
    since: float
    opened: Future[list[Opened]]


@dataclass(frozen=True, slots=True)
class Guests:
    """The rows of a batch that a challenger answers: their places in it, and its ticket, None where there is no row."""

    arm: Arm
    places: Sequence[int]
    ticket: Ticket | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Opened messages in the order of their offsets. `ticket` is None where no row needs the champion.

    `guests` is None where no challenger is in canary.

    `size` is in bytes, what all of them hold; `submitted` the monotonic second at which they left for the model.
    """

    opened: Sequence[Opened] = field(repr=False)
    serving: Serving
    epoch: int
    size: int
    ticket: Ticket | None
    submitted: float
    trace: BatchTrace
    guests: Guests | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """Outcomes whose answers and dead letters are on their way to the broker."""

    outcomes: Sequence[Outcome] = field(repr=False)
    epoch: int
    size: int
    sending: Sending
    trace: BatchTrace

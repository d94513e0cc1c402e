"""The first stage behind the poll: messages are parsed, digested and decoded by a pool of threads, in order."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from inference.courtesy import Courtesy
from inference.models.card import ModelCard
from inference.pipeline import Opened, Opener
from inference.record import Record
from inference.serving import Serving
from inference.stages.channel import Channel
from inference.stages.parcel import Polled

# With fewer bytes of messages a second thread costs more, in waking and waiting for the interpreter, than it saves.
WORTH_A_THREAD = 200_000


class OpenStage:
    """Spreads what was polled over the pool; parcels leave in the order they came, each with its future.

    Threads serve: digests, picture decoders, resizing and tokenizers let go of the interpreter's lock.
    """

    def __init__(self, opener: Opener, target: Channel[Polled], threads: int, most: int, courtesy: Courtesy) -> None:
        """`most` messages at most make a parcel, so that the first need not wait for the last of a large poll."""
        self._opener = opener
        self._target = target
        self._threads = threads
        self._most = most
        self._courtesy = courtesy
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="open")

    def submit(self, records: Sequence[Record], serving: Serving, epoch: int, since: float) -> None:
        """Open messages that could be read since then for `serving`. Raises EndedError where a later stage is gone."""
        size = sum(len(record.value or b"") for record in records)
        threads = min(self._threads, 1 + size // WORTH_A_THREAD)
        share = min(self._most, -(-len(records) // threads))
        for start in range(0, len(records), share):
            part = records[start : start + share]
            future = self._pool.submit(self._open, part, serving.card)
            self._target.put(Polled(part, serving, epoch, since, future))

    def _open(self, records: Sequence[Record], card: ModelCard) -> list[Opened]:
        with self._courtesy:
            return self._opener.open(records, card)

    def end(self) -> None:
        """Say that nothing more will be submitted."""
        self._target.end()

    def close(self) -> None:
        """Let go of the threads; what they have not begun is left."""
        self._pool.shutdown(wait=False, cancel_futures=True)

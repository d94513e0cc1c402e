"""What a consumer group tells one of its members: its part of the partitions, and what it must give up."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterable

from kafka import AsyncConsumerRebalanceListener, TopicPartition
from kafka.net.selector import KernelEvent

from inference import log
from inference.record import Partition

_log = logging.getLogger(__name__)
# Partitions are given up once what was read of them is written, but no later than this: others wait for them.
HANDOVER_SECONDS = 8.0
# After this long without a heartbeat a member counts as dead.
SESSION_SECONDS = 10.0
# What a group may take to share out its partitions: it waits for the dead, and for what the living hand over.
REBALANCE_SECONDS = SESSION_SECONDS + HANDOVER_SECONDS


class Membership(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # the library ships no types
    """One client's time in its group: notes on the client's own loop what the thread that polls then acts on."""

    def __init__(self, drained: Callable[[], bool]) -> None:
        """`drained` tells, from any thread, whether all that was polled is written."""
        self.revoking = False  # partitions are being given up
        self.closing = False  # set by who leaves: nothing is waited for any more
        self.assigned = False  # whether the group has given this member its part, which may be no partition at all
        self._drained = drained
        self._events: queue.SimpleQueue[tuple[str, list[Partition]]] = queue.SimpleQueue()
        self._waits_since: float | None = time.monotonic()  # for its part; None while it has one

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called before partitions are given up; they are, once this returns."""
        self.revoking = True
        deadline = time.monotonic() + HANDOVER_SECONDS
        while not (self._drained() or self.closing) and time.monotonic() < deadline:
            await KernelEvent("_sleep", 0.01)
        self._note("revoked", revoked)

    async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """Called when others may have them already."""
        self._note("lost", lost)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called with what is new in this member's part."""
        self._note("assigned", assigned)

    def _note(self, kind: str, partitions: Iterable[TopicPartition]) -> None:
        self._events.put((kind, [Partition(each.topic, each.partition) for each in partitions]))

    def changed(self, held: set[Partition]) -> set[Partition] | None:
        """What is held instead of `held` after all that was noted since the last call; None where nothing was."""
        if self._events.empty():
            return None
        while not self._events.empty():
            kind, partitions = self._events.get()
            if kind == "assigned":
                self.assigned = True
                self._waits_since = None
                held = held | set(partitions)
            else:
                self._waits_since = time.monotonic()
                held = held - set(partitions)
            if partitions:
                names = [f"{each.topic}[{each.number}]" for each in partitions]
                _log.info("partitions %s", kind, extra=log.fields(partitions=names))
        self.revoking = False
        return held

    @property
    def waited(self) -> float | None:
        """Seconds that it has been waiting for its part; None while it has one."""
        return None if self._waits_since is None else time.monotonic() - self._waits_since

"""The stall guard: tells a consumer that is stuck from one that has nothing to read."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from inference.record import Partition


class _Still(NamedTuple):
    position: int
    since: float


class StallGuard:
    """Names partitions that have messages to read while their position stands still.

    A client can be stuck without an error: a fetch that never returns, a session that a broker forgot, or an embedded
    broker that answers a position beyond the log's end with silence. Backpressure and rebalances are no stalls.
    """

    def __init__(self, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds` is how long a position may stand still; `clock` gives monotonic seconds."""
        self._seconds = seconds
        self._clock = clock
        self._still: dict[Partition, _Still] = {}

    def observe(
        self, positions: Mapping[Partition, int], lag: Mapping[Partition, int], paused: Collection[Partition] = ()
    ) -> list[Partition]:
        """The partitions that are stalled now, each named again only after another `seconds`.

        `positions` are the next offsets to read of all assigned partitions; `lag` is the log's end minus that position
        where it is known, below zero where the log ends before it (a topic made anew); `paused` are not read on
        purpose, nor counted. A partition that is not observed is forgotten.
        """
        now = self._clock()
        watched = {
            partition: position
            for partition, position in positions.items()
            if lag.get(partition, 0) != 0 and partition not in paused
        }
        self._still = {
            partition: kept
            if (kept := self._still.get(partition)) is not None and kept.position == position
            else _Still(position, now)
            for partition, position in watched.items()
        }
        stalled = sorted(partition for partition, still in self._still.items() if now - still.since >= self._seconds)
        for partition in stalled:
            self._still[partition] = _Still(watched[partition], now)
        return stalled

    def reset(self) -> None:
        """Start anew: after a rebalance, or with a new consumer."""
        self._still.clear()

"""The one bound of the request path: what has been read and not yet been written or dropped."""

from __future__ import annotations

import threading


class InFlight:
    """Counts requests and their bytes between the first stage and the last. Safe for several threads.

    Queues between stages need no bound of their own: nothing is polled while this one is full.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        if max_requests < 1 or max_bytes < 1:
            raise ValueError(f"needs max_requests ≥ 1 and max_bytes ≥ 1, got {max_requests} and {max_bytes}")
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._requests = 0
        self._bytes = 0
        self._changed = threading.Condition()

    @property
    def requests(self) -> int:
        """How many are in flight."""
        return self._requests

    @property
    def bytes(self) -> int:
        """How many bytes they hold: messages as they came, and what was decoded of them."""
        return self._bytes

    @property
    def room(self) -> int:
        """How many more requests may be read now: none where the bytes are full."""
        return max(0, self._max_requests - self._requests) if self._bytes < self._max_bytes else 0

    def add(self, requests: int, size: int) -> None:
        """Count what was read, or what an earlier reading grew by."""
        with self._changed:
            self._requests += requests
            self._bytes += size

    def release(self, requests: int, size: int) -> None:
        """Count what was written or dropped."""
        with self._changed:
            self._requests -= requests
            self._bytes -= size
            self._changed.notify_all()

    def wait_for_room(self, seconds: float) -> bool:
        """Wait until something may be read, at most so long; returns whether it may."""
        with self._changed:
            return self._changed.wait_for(lambda: self.room > 0, seconds)

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until nothing is in flight, at most so long; returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._requests == 0, seconds)

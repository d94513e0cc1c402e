"""Whether a loop still comes round: what a liveness probe asks of a process that has not ended by itself."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pulse:
    """A loop beats each time it comes round, and each time it tries again what outside servers refuse.

    So a long outage of database or broker is no failure, and a loop that hangs in a call is. Before the first beat and
    after `end` nothing is expected: loading a model takes minutes. One thread beats, any may ask.
    """

    def __init__(self, name: str, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds` without a beat are a failure; longer than any single call to a server may take."""
        self._name = name
        self._seconds = seconds
        self._clock = clock
        self._last: float | None = None

    def beat(self) -> None:
        """The loop is at work."""
        self._last = self._clock()

    def end(self) -> None:
        """The loop has ended: nothing is expected of it any more."""
        self._last = None

    @property
    def problem(self) -> str | None:
        """What is wrong, None where nothing is."""
        last = self._last
        silent = 0.0 if last is None else self._clock() - last
        if silent <= self._seconds:
            return None
        return f"{self._name} has not come round for {silent:.0f} s; {self._seconds:g} s are allowed"

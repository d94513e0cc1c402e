"""Work that nobody waits for gives way to work that somebody does.

One thread at a time holds Python's interpreter. While a batch is being written, whatever opens or answers another one
goes at half its speed, and the requests in it are late by that. A write can wait: there are pauses between batches.
"""

from __future__ import annotations

import threading

MOST_SECONDS = 0.01  # about what one batch needs; a worker that is never at rest must write all the same


class Courtesy:
    """Knows whether something urgent is being done, by any thread: `with courtesy:` around it."""

    def __init__(self) -> None:
        self._urgent = 0
        self._rested = threading.Condition()

    @property
    def busy(self) -> bool:
        """Whether something urgent is being done."""
        return self._urgent > 0

    def __enter__(self) -> None:
        with self._rested:
            self._urgent += 1

    def __exit__(self, *_: object) -> None:
        with self._rested:
            self._urgent -= 1
            if not self.busy:
                self._rested.notify_all()

    def give_way(self) -> None:
        """Return when nothing urgent is being done, or after `MOST_SECONDS`."""
        with self._rested:
            self._rested.wait_for(lambda: not self.busy, MOST_SECONDS)

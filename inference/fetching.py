"""When a broker answers a fetch: at the first message, or once it has gathered enough."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_MS = 500
# About what a message needs beside the broker's wait until it can leave in a batch: the fetch's own way, and opening.
TO_THE_MODEL_MS = 8


@dataclass(frozen=True, slots=True)
class Fetching:
    """A fetch is answered when there are `min_bytes`, or after `wait_ms`. By default the first message is enough."""

    wait_ms: int = LONGEST_MS
    min_bytes: int = 1

    @property
    def gathers(self) -> float:
        """For how many seconds at most a message may have been there before it comes, since no fetch was answered."""
        return (self.wait_ms + TO_THE_MODEL_MS) / 1000 if self.min_bytes > 1 else 0.0

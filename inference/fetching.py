"""When a broker answers a fetch: at the first message, or once it has gathered enough."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_MS = 500


@dataclass(frozen=True, slots=True)
class Fetching:
    """A fetch is answered when there are `min_bytes`, or after `wait_ms`. By default the first message is enough."""

    wait_ms: int = LONGEST_MS
    min_bytes: int = 1

    @property
    def gathers(self) -> float:
        """For how many seconds a message may have lain at the broker before a fetch was worth answering."""
        return self.wait_ms / 1000 if self.min_bytes > 1 else 0.0

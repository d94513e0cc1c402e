"""How often somebody may ask: a token bucket for each, as many as are remembered."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

# Whoever was forgotten starts with a full bucket, so what is remembered bounds memory and nothing else.
MOST = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Buckets:
    """Each key may take `burst` at once and `per_second` in the long run. Not safe for several threads."""

    def __init__(self, per_second: float, burst: int, most: int = MOST) -> None:
        self._per_second = per_second
        self._burst = burst
        self._most = most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Take one at `now`, in seconds of a clock that never goes back: 0, or how many seconds to wait for one."""
        bucket = self._buckets.setdefault(key, _Bucket(self._burst, now))
        self._buckets.move_to_end(key)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        if bucket.left < 1:
            return (1 - bucket.left) / self._per_second
        bucket.left -= 1
        return 0.0

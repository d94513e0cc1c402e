"""What measurements share: a share with its interval, and a median time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from monitor.domain.intervals import wilson


def share(flags: Sequence[bool]) -> dict[str, Any]:
    """How often, with Wilson's 95% interval."""
    low, high = wilson(sum(flags), len(flags))
    return {"share": sum(flags) / len(flags), "interval": [round(low, 3), round(high, 3)], "trials": len(flags)}


def timed(work: Callable[[], object], repeats: int = 15) -> float:
    """Median milliseconds, after one warm-up."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(taken), 3)

"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Iterator


def delays(first: float = 0.2, most: float = 10.0, *, rng: random.Random | None = None) -> Iterator[float]:
    """Seconds to wait: doubling up to `most`, each drawn from its upper half so that workers do not retry in step."""
    source = rng or random.Random()
    delay = first
    while True:
        yield delay * source.uniform(0.5, 1.0)
        delay = min(delay * 2, most)

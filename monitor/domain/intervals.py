"""Intervals for shares."""

from __future__ import annotations

import math

# Two-sided 95%.
Z95 = 1.959963984540054


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a share, (low, high) within [0, 1].

    Unlike the plain normal interval it keeps its coverage near 0 and 1 and for few trials. Raises ValueError unless
    0 ≤ successes ≤ trials and trials > 0. Source: Wilson (1927), JASA 22:209.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes in {trials} trials is no share")
    return share_interval(successes / trials, trials, z)


def share_interval(share: float, rows: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval of a share that was estimated as well as `rows` > 0 plain answers would have done."""
    spread = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    centre, scale = share + z * z / (2 * rows), 1 + z * z / rows
    low, high = (centre - spread) / scale, (centre + spread) / scale
    # rounding must not leave the share itself outside
    return max(0.0, min(share, low)), min(1.0, max(share, high))

"""Two models judged on the same rows: is the second worse, and by how much may it be?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import binomtest

from monitor.domain.intervals import wilson


@dataclass(frozen=True, slots=True)
class Paired:
    """N rows that two models answered: how many both got right, and how many exactly one of them."""

    n: int
    both: int
    only_first: int
    only_second: int

    def __post_init__(self) -> None:
        counts = (self.both, self.only_first, self.only_second)
        if min(counts) < 0 or sum(counts) > self.n:
            raise ValueError(f"{counts} are no parts of {self.n} rows")

    @property
    def difference(self) -> float:
        """Accuracy of the second less that of the first; 0 without rows."""
        return (self.only_second - self.only_first) / self.n if self.n else 0.0


def p_second_worse(rows: Paired) -> float:
    """One-sided exact McNemar test: how likely so many rows for the first, were both equally good (McNemar 1947)."""
    discordant = rows.only_first + rows.only_second
    if discordant == 0:
        return 1.0
    return float(binomtest(rows.only_first, discordant, 0.5, alternative="greater").pvalue)


def difference_interval(rows: Paired, z: float) -> tuple[float, float]:
    """Interval of the accuracy that the second gains on the first, (low, high) within [-1, 1].

    Square-and-add of Wilson's intervals, with the correlation of the pairs: method 10 of Newcombe (1998), Statistics in
    Medicine 17:2635. It holds its coverage for few rows and near 0 and 1, where the plain normal interval does not.
    Raises ValueError without rows.
    """
    n, a, b, c = rows.n, rows.both, rows.only_second, rows.only_first
    d = n - a - b - c
    second, first = (a + b) / n, (a + c) / n
    low2, high2 = wilson(a + b, n, z)
    low1, high1 = wilson(a + c, n, z)
    phi = _correlation(a, b, c, d)
    down = _added(second - low2, high1 - first, phi)
    up = _added(high2 - second, first - low1, phi)
    return max(-1.0, rows.difference - down), min(1.0, rows.difference + up)


def _correlation(a: int, b: int, c: int, d: int) -> float:
    """Of the pairs, drawn towards zero by half a row, as the method has it."""
    scale = math.sqrt((a + b) * (c + d)) * math.sqrt((a + c) * (b + d))
    if scale == 0:
        return 0.0
    over = a * d - b * c
    return (max(over - (a + b + c + d) / 2, 0.0) if over > 0 else float(over)) / scale


def _added(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

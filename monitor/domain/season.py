"""What a metric is expected to be: its level, its hour of day, and what the window before makes likely.

Fitted once on a calibration period, y_t being the metric of window t in hour h(t):
 deviation   x_t = y_t - level - shrink · (mean of hour h(t) - level)
 residual    r_t = x_t - lag · x_{t-1}; where the window before is missing, x_t · √(1 - lag²)
`shrink` is James and Stein's (1961): 0 where the hours differ no more than chance makes them, near 1 where much more.

The calibration's own residuals are taken with each window left out of level and hour. Else they would be smaller than
those of later windows, which would look odd beside them; it also frees the lag of the bias that the fit brings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
HOURS = 24
# A lag of 1 would make a lasting shift invisible; what is estimated above this is held to it.
MOST_LAG = 0.9


@dataclass(frozen=True, slots=True)
class Season:
    """The expectation of one series: `profile` (24 numbers) by hour of day in UTC, `sd` of its deviations."""

    level: float
    profile: tuple[float, ...]
    lag: float
    sd: float

    def deviation(self, value: float, hour: int) -> float:
        """How far a value is from what its hour makes it."""
        return value - self.level - self.profile[hour]

    def residual(self, deviation: float, before: float | None) -> float:
        """What the window before, if it is known, does not explain of a deviation."""
        return deviation * math.sqrt(1 - self.lag**2) if before is None else deviation - self.lag * before


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Seasons of S series at once, and the `deviations` and `residuals` (n, S) of what they were fitted on."""

    level: Array
    profile: Array
    lag: Array
    sd: Array
    deviations: Array
    residuals: Array

    def season(self, index: int) -> Season:
        """One series' expectation."""
        profile = tuple(float(each) for each in self.profile[:, index])
        return Season(float(self.level[index]), profile, float(self.lag[index]), float(self.sd[index]))


def fit(values: Array, hours: NDArray[np.int64], follows: NDArray[np.bool_]) -> Fit:
    """Fit S series of n windows: `values` (n, S), `hours` of day (n,), `follows` (n,): the window before is row i - 1.

    Raises ValueError on fewer than 3 windows and on values that are not finite.
    """
    n = len(values)
    if n < 3 or not np.isfinite(values).all():
        raise ValueError("a season takes three windows and finite values")
    level = values.mean(axis=0)
    member = np.equal.outer(np.arange(HOURS), hours).astype(np.float64)
    count = member.sum(axis=1)[:, None]
    mean = np.where(count > 0, member @ values / np.maximum(count, 1), level)
    shrink = _shrink(values - mean[hours], mean - level, count)
    profile = shrink * (mean - level)

    others = (n * level - values) / (n - 1)
    of_hour = count[hours]
    mean_of_others = np.where(of_hour > 1, (of_hour * mean[hours] - values) / np.maximum(of_hour - 1, 1), others)
    deviations = values - others - shrink * (mean_of_others - others)
    lag = _lag(deviations[1:][follows[1:]], deviations[:-1][follows[1:]])
    before = np.vstack([np.zeros((1, values.shape[1])), deviations[:-1]])
    whole = follows.astype(bool) & (np.arange(n) > 0)
    residuals = np.where(whole[:, None], deviations - lag * before, deviations * np.sqrt(1 - lag**2))
    return Fit(level, profile, lag, deviations.std(axis=0), deviations, residuals)


def _shrink(within: Array, between: Array, count: Array) -> Array:
    """The share (S,) of the hours' scatter that is theirs and not chance."""
    seen = count[:, 0] > 0
    free = max(1, len(within) - int(seen.sum()))
    chance = (within**2).sum(axis=0) / free * (1 / count[seen]).mean()
    scatter = (between[seen] ** 2).sum(axis=0) / max(1, int(seen.sum()) - 1)
    share: Array = np.clip(1 - chance / np.maximum(scatter, 1e-300), 0, 1)
    return share


def _lag(now: Array, before: Array) -> Array:
    """Lag-1 correlation (S,): none within its standard error of zero, else a little more than is seen.

    Correlation left in means false alarms, which are promised not to come; too much taken out costs some hours.
    """
    size = np.sqrt((now**2).sum(axis=0) * (before**2).sum(axis=0))
    lag = (now * before).sum(axis=0) / np.maximum(size, 1e-300)
    error = np.sqrt(np.maximum(0, 1 - lag**2) / max(1, len(now)))
    held: Array = np.where(lag > error, np.clip(lag + 0.3 * error, 0, MOST_LAG), 0.0)
    return held

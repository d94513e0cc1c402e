"""Evidence about a mean that may be looked at after every observation: capital that is won by betting.

Who bets against "the mean is at most m" with stakes that hang on the past only, and never more than there is, cannot be
expected to gain if that is true: the capital is a supermartingale, and reaches 1/alpha with probability alpha at most,
however often one looks (Ville 1939). Stakes grow with what the past says of mean and variance: the approximate growth
rate adaptive bet of Waudby-Smith and Ramdas (2024), Journal of the Royal Statistical Society B 86:1. The observations
must lie in [0, 1]; they need not be independent, only their mean given the past counts.

>>> import numpy as np
>>> above(np.ones(100), 0.5, 0.05), above(np.zeros(100), 0.5, 0.05)
(True, False)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Of what a stake may be at most: all of it would be lost to a single observation of 0.
MOST = 0.5


def log_capital(values: Array, mean: float) -> Array:
    """Log capital (N,) after each of N values, of bets that their mean is above `mean` in (0, 1).

    Raises ValueError where a value lies outside [0, 1].
    """
    if not 0 < mean < 1:
        raise ValueError(f"nothing can be bet against a mean of {mean}")
    if len(values) and not (np.min(values) >= 0 and np.max(values) <= 1):
        raise ValueError("bets need values between 0 and 1")
    before = np.arange(1, len(values) + 1)  # with half of a value of 1/2 and its variance, as a first guess
    sums = np.concatenate([[0.0], np.cumsum(values)[:-1]])
    squares = np.concatenate([[0.0], np.cumsum(values**2)[:-1]])
    guess = (0.5 + sums) / before
    variance = np.maximum((0.25 + squares + 0.25) / before - guess**2, 1e-4)
    gap = guess - mean
    stakes = np.clip(gap / (variance + gap**2), 0.0, MOST / mean)
    gained: Array = np.cumsum(np.log1p(stakes * (values - mean)))
    return gained


def above(values: Array, mean: float, alpha: float) -> bool:
    """Whether the values show, at level `alpha` whenever one looks, that their mean is above `mean`."""
    return bool(len(values) and np.max(log_capital(values, mean)) >= math.log(1 / alpha))


def below(values: Array, mean: float, alpha: float) -> bool:
    """Whether they show that it is below."""
    return above(1.0 - values, 1.0 - mean, alpha)

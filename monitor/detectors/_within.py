"""Within classes: has more moved than the mix of predicted classes?

A fused embedding moves when classes come in other shares, with nothing wrong inside any of them. Bins hold both: mean
features and how many rows were predicted as each class. As the mean of a bin is linear in its class shares, least
squares over the baseline's bins gives each class's own mean features; what a window's mean is away from the mean that
its class shares foretell is the shift within classes (direct standardisation: reweighting the baseline to the window's
classes, Kitagawa 1955). It tells a prior shift apart; it must not suppress anything, as a wrong model also predicts
other classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from monitor.detectors._binned import Array, column
from monitor.domain.window import Summary

FEWEST_BINS_A_CLASS = 8
DIRECTIONS = 32  # leading features that are looked at: those behind carry noise
NOTHING = 0.4  # a distance below counts as none: classes are not quite alike inside in any two samples


@dataclass(frozen=True, slots=True)
class Within:
    """Distances in baseline standard deviations, debiased: `total` of the means, and `within` classes."""

    total: float
    within: float

    @property
    def prior_alone(self) -> bool:
        """Whether the class mix explains all that can be told: within classes next to nothing is left."""
        return self.total > NOTHING > self.within and self.within**2 <= self.total**2 / 5


def within_classes(reference: Summary, current: Summary) -> Within | None:
    """How far a window moved, and how far beyond its class mix; None where bins are too few or lack a column.

    Raises IncomparableError as `column` does, on values that are not finite.
    """
    needed = {"features", "classes"}
    if any(not needed <= side.bins.columns.keys() for side in (reference, current)):
        return None
    shares, features = (column(reference.bins, name, "the baseline") for name in ("classes", "features"))
    seen, moved = (column(current.bins, name, "the window") for name in ("classes", "features"))
    classes = shares.sum(axis=0) > 0
    if shares.shape[1] != seen.shape[1] or len(shares) < FEWEST_BINS_A_CLASS * int(classes.sum()) or len(seen) < 2:
        return None
    features, moved = features[:, :DIRECTIONS], moved[:, :DIRECTIONS]
    weight = np.sqrt(reference.bins.count.astype(np.float64))[:, None]
    known = shares[:, classes]
    means, *_ = np.linalg.lstsq(known * weight, features * weight, rcond=None)
    rest = features - known @ means
    n = reference.bins.count.astype(np.float64) / reference.bins.rows, current.bins.count / current.bins.rows
    # classes that the baseline never saw keep nothing of their own: what they bring counts as moved
    foretold = n[1] @ seen[:, classes] @ means
    centre = n[0] @ features
    away = n[1] @ moved
    noise_total = _noise(features - centre, n[0]) + _noise(moved - away, n[1])
    uncertain = known.T @ (known * weight**2)
    mix = n[1] @ seen[:, classes]
    residual_variance = (weight**2 * rest**2).sum(axis=0) / max(1, len(rest) - int(classes.sum()))
    noise_within = float(residual_variance.sum() * (mix @ np.linalg.pinv(uncertain) @ mix)) + _noise(
        moved - seen[:, classes] @ means - (away - foretold), n[1]
    )
    return Within(_debiased(away - centre, noise_total), _debiased(away - foretold, noise_within))


def _noise(deviations: Array, weights: Array) -> float:
    """Variance of a weighted mean of bins, summed over directions."""
    return float((weights[:, None] ** 2 * deviations**2).sum()) * len(weights) / max(1, len(weights) - 1)


def _debiased(difference: Array, noise: float) -> float:
    return math.sqrt(max(0.0, float(difference @ difference) - noise))

"""The frozen pairing map: does this image belong to this text?

Gaussian canonical correlation analysis (Hotelling 1936) of two feature sets on baseline pairs. With canonical scores
u, v of correlation ρ the log density ratio of a pair, its pointwise mutual information, is the sum over directions of
    -½ log(1 - ρ²) + [2ρuv - ρ²(u² + v²)] / (2(1 - ρ²)).
Such a score also moves when one marginal does. So the baseline's regression of the score on the image alone is
subtracted and, separately, that on the text alone: two residuals, each with mean zero on baseline pairs whatever the
images, or the texts, are. Where pairing breaks, both fall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]
Double = NDArray[np.float64]

LEADING = 32  # features of each modality that enter: the leading ones carry what the modalities share
DIRECTIONS = 16  # canonical directions kept at most
RIDGE = 0.1  # added to the features' unit variances, against canonical correlations of chance
CLIP = 4.0  # canonical scores are cut there, so that one odd row cannot own its bin


class PairingError(ValueError):
    """Pairs cannot be fitted or scored; the text says why."""


@dataclass(frozen=True, slots=True, eq=False)
class PairingMap:
    """From two (N, r) feature sets to (N, 2) residuals, given the image and given the text. Arrays are float32.

    `left` (p, k) and `right` (p, k) project the leading p features to k canonical scores of correlations `rho` (k,);
    `left_centre`, `right_centre` (p,); `given_left`, `given_right` (1 + 2k,) regress the score on 1, u and u².
    """

    left: FloatArray
    right: FloatArray
    left_centre: FloatArray
    right_centre: FloatArray
    rho: FloatArray
    given_left: FloatArray
    given_right: FloatArray

    @classmethod
    def fit(cls, left: ArrayLike, right: ArrayLike) -> PairingMap:
        """Fit on N baseline pairs, row i with row i; both (N, r) features, N ≥ 32.

        Correlations are fitted on one half and measured on the other, so that chance does not pass for pairing.
        Raises PairingError where pairs are too few, unequal in number or not finite.
        """
        x, y = (np.asarray(side, np.float64)[:, :LEADING] for side in (left, right))
        if len(x) != len(y) or len(x) < 32:
            raise PairingError(f"pairing needs at least 32 pairs, got {len(x)} and {len(y)}")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise PairingError("features hold NaN or infinity")
        first, second = slice(0, None, 2), slice(1, None, 2)
        centres = x.mean(axis=0), y.mean(axis=0)
        x, y = x - centres[0], y - centres[1]
        a, b = _canonical(x[first], y[first])
        u, v = x[second] @ a, y[second] @ b
        held_out = (u * v).mean(axis=0) / np.maximum(u.std(axis=0) * v.std(axis=0), 1e-12)
        # a direction whose held-out correlation is within two standard errors of none is left out
        kept = max(1, int((held_out > 2 / np.sqrt(len(u))).sum()))
        a, b = _canonical(x, y)
        a, b = a[:, :kept], b[:, :kept]
        u, v = x @ a, y @ b
        rho = np.clip(np.sort(held_out)[::-1][:kept], 0.01, 0.98)
        score = _score(_cut(u), _cut(v), rho)
        arrays = (a, b, *centres, rho, _regress(_cut(u), score), _regress(_cut(v), score))
        return cls(*(np.asarray(each, np.float32) for each in arrays))

    def residuals(self, left: ArrayLike, right: ArrayLike) -> FloatArray:
        """(N, 2) residual scores of N pairs of features (N, r), given the left and given the right modality."""
        u, v = self.canonical(left, right)
        score = self.score(u, v)
        out = np.stack([score - _design(u) @ self.given_left, score - _design(v) @ self.given_right], axis=1)
        residuals: FloatArray = out.astype(np.float32)
        return residuals

    def canonical(self, left: ArrayLike, right: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Canonical scores u and v, (N, k) each, of N pairs of features (N, r)."""
        p = len(self.left_centre)
        x, y = np.asarray(left, np.float32), np.asarray(right, np.float32)
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or min(x.shape[1], y.shape[1]) < p:
            raise PairingError(f"features have shapes {x.shape} and {y.shape}, expected two of (N, {p} or more)")
        u: FloatArray = _cut((x[:, :p] - self.left_centre) @ self.left)
        v: FloatArray = _cut((y[:, :p] - self.right_centre) @ self.right)
        return u, v

    def score(self, u: FloatArray, v: FloatArray) -> FloatArray:
        """(N,) pointwise mutual information, in nats, of pairs with canonical scores u and v (N, k)."""
        score: FloatArray = _score(u, v, self.rho)
        return score

    def to_arrays(self) -> dict[str, FloatArray]:
        """The map as named arrays, for safetensors."""
        return {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.floating]]) -> PairingMap:
        """The inverse of `to_arrays`. Raises PairingError where an array is missing."""
        try:
            return cls(**{f.name: np.asarray(arrays[f.name], np.float32) for f in fields(cls)})
        except KeyError as error:
            raise PairingError(f"a stored pairing map lacks {error}") from None


def _canonical(x: Double, y: Double) -> tuple[Double, Double]:
    """Projections (p, k) to canonical scores of about unit variance, strongest correlation first."""
    roots = []
    for side in (x, y):
        values, vectors = np.linalg.eigh(side.T @ side / len(side))
        ridge = RIDGE * values.mean()
        roots.append((vectors / np.sqrt(values + ridge)) @ vectors.T)
    u, _, vt = np.linalg.svd(roots[0] @ (x.T @ y / len(x)) @ roots[1])
    k = min(DIRECTIONS, u.shape[1], vt.shape[0])
    a, b = roots[0] @ u[:, :k], roots[1] @ vt[:k].T
    return a / np.maximum((x @ a).std(axis=0), 1e-12), b / np.maximum((y @ b).std(axis=0), 1e-12)


def _cut(u: NDArray[np.floating]) -> NDArray[np.floating]:
    cut: NDArray[np.floating] = np.clip(u, -CLIP, CLIP)
    return cut


def _score(u: NDArray[np.floating], v: NDArray[np.floating], rho: NDArray[np.floating]) -> NDArray[np.floating]:
    rest = 1 - rho**2
    per_direction = (2 * rho * u * v - rho**2 * (u**2 + v**2)) / (2 * rest) - 0.5 * np.log(rest)
    total: NDArray[np.floating] = per_direction.sum(axis=1)
    return total


def _design(u: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.concatenate([np.ones((len(u), 1), u.dtype), u, u**2], axis=1)


def _regress(u: NDArray[np.floating], score: NDArray[np.floating]) -> Double:
    coefficients: Double = np.linalg.lstsq(_design(u), score, rcond=None)[0]
    return coefficients

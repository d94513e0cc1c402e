"""The frozen feature map: what of an embedding a window's mean must show.

A mean of raw embeddings sees mean shifts only. The map adds products of the leading whitened principal scores
(their means are a covariance), random Fourier features at the median distance (their means are a characteristic
function: shape, clusters) and the energy outside principal subspaces (noise), then keeps the leading principal
directions of all of them, each scaled to unit variance on the rows it was fitted on. The distance between two means
of such features is a maximum mean discrepancy with a finite-dimensional kernel (Gretton et al. 2012; Rahimi and
Recht 2007 for the Fourier features).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]
Double = NDArray[np.float64]

DIRECTIONS = 128  # features kept: 512 bytes a bin; 64 lost power against covariance changes and new clusters
LEADING = 20  # whitened scores whose products are taken: 210 columns
SUBSPACES = (0.9, 0.99, 0.999)  # shares of the variance inside the principal subspaces whose outside is measured
FOURIER = 256
CLIP = 5.0  # whitened scores are cut there, so that one odd row cannot own its bin through a square
FLOOR = 1e-6  # smallest relative standard deviation that is divided by


class FeatureError(ValueError):
    """Embeddings cannot be fitted or transformed; the text says why."""


def _principal(rows: Double) -> tuple[Double, Double, Double, Double]:
    """Mean (d,), directions (d, p), their standard deviations (p,), and how many hold each share of variance."""
    mean = rows.mean(axis=0)
    _, singular, vt = np.linalg.svd(rows - mean, full_matrices=False)
    spread = singular / np.sqrt(len(rows))
    size = float(np.abs(rows).max())
    kept = min(int((spread > FLOOR * max(spread[0], size)).sum()), len(rows) // 2)
    if kept == 0:
        raise FeatureError("all embeddings are alike: nothing to summarise")
    energy = np.cumsum(spread**2) / np.sum(spread**2)
    inside = np.minimum(np.searchsorted(energy, SUBSPACES) + 1, kept).astype(np.float64)
    return mean, vt[:kept].T, spread[:kept], inside


def _fourier(scores: Double, rng: np.random.Generator) -> tuple[Double, Double]:
    """Frequencies (p, m) of a Gaussian kernel whose width is the median distance of rows, and phases (m,)."""
    sample = scores[rng.permutation(len(scores))[:512]]
    half = len(sample) // 2
    median = float(np.median(np.linalg.norm(sample[:half] - sample[half : 2 * half], axis=1)))
    frequencies = rng.normal(size=(scores.shape[1], FOURIER)) / (median if median > 0 else 1.0)
    return frequencies, rng.uniform(0, 2 * np.pi, FOURIER)


def _leading_directions(blocks: list[FloatArray], most: int) -> tuple[Double, Double]:
    """Centre (D,) of the blocks' columns, and the (D, r) directions that give unit-variance principal scores.

    Every column gets unit variance and every block the same total: none is drowned by another's number of columns.
    """
    columns = np.concatenate(blocks, axis=1).astype(np.float64)
    centre, sd = columns.mean(axis=0), columns.std(axis=0)
    constant = sd <= FLOOR * np.maximum(np.abs(columns).max(axis=0), 1)
    share = np.concatenate([np.full(block.shape[1], 1 / np.sqrt(block.shape[1])) for block in blocks])
    weight = np.where(constant, 0.0, share / np.where(constant, 1.0, sd))
    _, strength, vt = np.linalg.svd((columns - centre) * weight, full_matrices=False)
    r = min(most, len(columns) // 2, int((strength > 1e-4 * strength[0]).sum()))
    return centre, weight[:, None] * vt[:r].T * np.sqrt(len(columns)) / strength[:r]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """From (N, d) embeddings to (N, r) features. All arrays are float32.

    `mean` (d,), `basis` (d, p) principal directions with standard deviations `spread` (p,), the first `inside` (3,) of
    which span the principal subspaces, `frequencies` (p, m) and `phases` (m,) of the Fourier part, `centre` (D,) of the
    D intermediate columns, `directions` (D, r).
    """

    mean: FloatArray
    basis: FloatArray
    spread: FloatArray
    inside: FloatArray
    frequencies: FloatArray
    phases: FloatArray
    centre: FloatArray
    directions: FloatArray

    @classmethod
    def fit(cls, x: ArrayLike, *, directions: int = DIRECTIONS, seed: int = 0) -> FeatureMap:
        """Fit on (N, d) embeddings of drift-free rows, N ≥ 8; r ≤ min(directions, N // 2).

        Raises FeatureError where rows are too few, not finite or all alike.
        """
        rows = np.asarray(x, np.float64)
        if rows.ndim != 2 or len(rows) < 8:
            raise FeatureError(f"a feature map needs at least 8 rows of embeddings, got shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise FeatureError("embeddings hold NaN or infinity")
        mean, basis, spread, inside = _principal(rows)
        frequencies, phases = _fourier((rows - mean) @ basis, np.random.default_rng(seed))
        none = np.zeros(0, np.float32)
        stem = (np.ascontiguousarray(a, np.float32) for a in (mean, basis, spread, inside, frequencies, phases))
        draft = cls(*stem, centre=none, directions=none)  # type: ignore[misc]  # six arrays, unpacked
        centre, final = _leading_directions(draft._blocks(rows.astype(np.float32)), directions)
        chosen = np.ascontiguousarray(final, np.float32)
        return replace(draft, centre=centre.astype(np.float32), directions=chosen)

    def _blocks(self, x: FloatArray) -> list[FloatArray]:
        """Whitened scores, products of the leading ones, Fourier features, energies outside the subspaces."""
        centred = x - self.mean
        scores = centred @ self.basis
        white = np.clip(scores / self.spread, -CLIP, CLIP)
        leading = white[:, :LEADING]
        left, right = np.triu_indices(leading.shape[1])
        held = np.cumsum(np.square(scores), axis=1)[:, self.inside.astype(np.intp) - 1]
        outside = np.square(centred).sum(axis=1, keepdims=True) - held
        energy = np.log(np.maximum(outside, 0) + np.float32(1e-4) * self.spread[0] ** 2)
        fourier = np.cos(scores @ self.frequencies + self.phases)
        return [white, leading[:, left] * leading[:, right], fourier, energy]

    def transform(self, x: ArrayLike) -> FloatArray:
        """Features (N, r) of (N, d) embeddings. Raises FeatureError on another d or values that are not finite."""
        rows = np.asarray(x, np.float32)
        if rows.ndim != 2 or rows.shape[1] != len(self.mean):
            raise FeatureError(f"embeddings have shape {rows.shape}, the map was fitted on (N, {len(self.mean)})")
        if not np.isfinite(rows).all():
            raise FeatureError("embeddings hold NaN or infinity")
        columns: FloatArray = np.concatenate(self._blocks(rows), axis=1)
        features: FloatArray = np.asarray((columns - self.centre) @ self.directions, np.float32)
        return features

    def rescaled(self, x: ArrayLike) -> FeatureMap:
        """The map with features of mean zero and unit variance on (N, d) rows it was not fitted on, N ≥ 8.

        On the rows it was fitted on, what lies outside their principal subspaces is smaller than on others.
        """
        features = self.transform(x)
        centre = np.concatenate(self._blocks(np.asarray(x, np.float32)), axis=1).mean(axis=0, dtype=np.float64)
        sd = features.std(axis=0, dtype=np.float64)
        directions = self.directions / np.where(sd > FLOOR, sd, 1)
        return replace(self, centre=centre.astype(np.float32), directions=directions.astype(np.float32))

    @property
    def width(self) -> int:
        """r, the number of features."""
        return int(self.directions.shape[1])

    def to_arrays(self) -> dict[str, FloatArray]:
        """The map as named arrays, for safetensors."""
        return {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.floating]]) -> FeatureMap:
        """The inverse of `to_arrays`. Raises FeatureError where an array is missing."""
        try:
            return cls(**{f.name: np.asarray(arrays[f.name], np.float32) for f in fields(cls)})
        except KeyError as error:
            raise FeatureError(f"a stored feature map lacks {error}") from None

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any value of the map."""
        digest = hashlib.sha256()
        for name, array in sorted(self.to_arrays().items()):
            digest.update(f"{name}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

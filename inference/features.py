"""The frozen feature map: what of an embedding a window's mean must show.

A mean of raw embeddings sees mean shifts only. The map adds products of the leading whitened principal scores
(their means are a covariance), random Fourier features at the median distance (their means are a characteristic
function: shape, clusters) and the energy outside the principal subspace (noise), then keeps the leading principal
directions of all of them, each scaled to unit variance on the rows it was fitted on. The distance between two means
of such features is a maximum mean discrepancy with a finite-dimensional kernel (Gretton et al. 2012; Rahimi and
Recht 2007 for the Fourier features).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]

DIRECTIONS = 128  # features kept: 512 bytes a bin; 64 lost power against covariance changes and new clusters
LEADING = 20  # whitened scores whose products are taken: 210 columns
SUBSPACE = 0.95  # share of the variance that counts as inside the principal subspace
FOURIER = 256
CLIP = 5.0  # whitened scores are cut there, so that one odd row cannot own its bin through a square
FLOOR = 1e-6  # smallest relative standard deviation that is divided by


class FeatureError(ValueError):
    """Embeddings cannot be fitted or transformed; the text says why."""


def _scale(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Column standard deviations (D,), 1 where a column is constant, so that it stays at zero."""
    sd = x.std(axis=0)
    constant = sd <= FLOOR * max(float(np.abs(x).max(initial=0.0)), FLOOR)
    scale: NDArray[np.float64] = np.where(constant, 1.0, sd)
    return scale


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """From (N, d) embeddings to (N, r) features. All arrays are float32.

    `mean` (d,), `basis` (d, p) principal directions with standard deviations `spread` (p,), `inside` (1,) of them
    span the principal subspace, `frequencies` (p, m) and `phases` (m,) of the Fourier part, `centre` and `weight` (D,)
    of the D intermediate columns, `directions` (D, r).
    """

    mean: FloatArray
    basis: FloatArray
    spread: FloatArray
    inside: FloatArray
    frequencies: FloatArray
    phases: FloatArray
    centre: FloatArray
    weight: FloatArray
    directions: FloatArray

    @classmethod
    def fit(cls, x: ArrayLike, *, directions: int = DIRECTIONS, seed: int = 0) -> FeatureMap:
        """Fit on (N, d) embeddings of drift-free rows, N ≥ 8; r = min(directions, N // 2).

        Raises FeatureError where rows are too few, not finite or all alike.
        """
        rows = np.asarray(x, np.float64)
        if rows.ndim != 2 or len(rows) < 8:
            raise FeatureError(f"a feature map needs at least 8 rows of embeddings, got shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise FeatureError("embeddings hold NaN or infinity")
        mean = rows.mean(axis=0)
        _, singular, vt = np.linalg.svd(rows - mean, full_matrices=False)
        spread = singular / np.sqrt(len(rows))
        kept = int((spread > FLOOR * max(spread[0], FLOOR)).sum())
        if kept == 0:
            raise FeatureError("all embeddings are alike: nothing to summarise")
        kept = min(kept, len(rows) // 2)
        basis, spread = vt[:kept].T, spread[:kept]
        energy = np.cumsum(spread**2) / np.sum(singular**2 / len(rows))
        inside = max(1, min(int(np.searchsorted(energy, SUBSPACE)) + 1, kept))
        rng = np.random.default_rng(seed)
        scores = (rows - mean) @ basis
        sample = scores[rng.permutation(len(scores))[:512]]
        half = len(sample) // 2
        median = float(np.median(np.linalg.norm(sample[:half] - sample[half : 2 * half], axis=1)))
        draft = cls(
            *(np.asarray(a, np.float32) for a in (mean, basis, spread, [inside])),
            frequencies=np.asarray(rng.normal(size=(kept, FOURIER)) / max(median, FLOOR), np.float32),
            phases=np.asarray(rng.uniform(0, 2 * np.pi, FOURIER), np.float32),
            centre=np.zeros(0, np.float32),
            weight=np.zeros(0, np.float32),
            directions=np.zeros((0, 0), np.float32),
        )
        blocks = draft._blocks(np.asarray(rows, np.float32))
        columns = np.concatenate(blocks, axis=1).astype(np.float64)
        # each block enters with the same total variance: none is drowned by another's number of columns
        share = np.concatenate([np.full(b.shape[1], 1 / np.sqrt(b.shape[1])) for b in blocks])
        centre, weight = columns.mean(axis=0), share / _scale(columns)
        _, strength, final = np.linalg.svd((columns - centre) * weight, full_matrices=False)
        sd = strength / np.sqrt(len(rows))
        r = min(directions, len(rows) // 2, int((sd > 1e-4 * sd[0]).sum()))
        return cls(
            draft.mean,
            draft.basis,
            draft.spread,
            draft.inside,
            draft.frequencies,
            draft.phases,
            centre=centre.astype(np.float32),
            weight=weight.astype(np.float32),
            directions=(final[:r].T / sd[:r]).astype(np.float32),
        )

    def _blocks(self, x: FloatArray) -> list[FloatArray]:
        centred = x - self.mean
        scores = centred @ self.basis
        white = np.clip(scores / self.spread, -CLIP, CLIP)
        leading = white[:, :LEADING]
        left, right = np.triu_indices(leading.shape[1])
        inside = int(self.inside[0])
        outside = np.einsum("nd,nd->n", centred, centred) - np.einsum(
            "np,np->n", scores[:, :inside], scores[:, :inside]
        )
        energy = np.log(np.maximum(outside, 0) + np.float32(1e-3) * self.spread[0] ** 2)
        fourier = np.cos(scores @ self.frequencies + self.phases)
        return [white, leading[:, left] * leading[:, right], fourier, energy[:, None]]

    def transform(self, x: ArrayLike) -> FloatArray:
        """Features (N, r) of (N, d) embeddings. Raises FeatureError on another d or values that are not finite."""
        rows = np.asarray(x, np.float32)
        if rows.ndim != 2 or rows.shape[1] != len(self.mean):
            raise FeatureError(f"embeddings have shape {rows.shape}, the map was fitted on (N, {len(self.mean)})")
        if not np.isfinite(rows).all():
            raise FeatureError("embeddings hold NaN or infinity")
        columns = np.concatenate(self._blocks(rows), axis=1)
        features: FloatArray = ((columns - self.centre) * self.weight) @ self.directions
        return features

    @property
    def width(self) -> int:
        """r, the number of features."""
        return self.directions.shape[1]

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

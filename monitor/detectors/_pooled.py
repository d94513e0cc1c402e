"""What of two samples of embeddings a test looks at where no frozen map is at hand: columns fitted on both together.

Everything is fitted on the pooled rows as a set, whatever their order and side. So under the null, where bins are
exchangeable, permuting bins gives an exact test although the columns have seen both samples. The columns are those of
`migrations.schema.feature_map` (whitened scores see mean shifts, their products see covariance, Fourier features see
shape, energy outside the principal subspaces sees noise) and neighbourhoods: which of 32 clusters a row is nearest to,
which sees a few rows in a new place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from migrations.schema.feature_map import CLIP, FLOOR, FOURIER, LEADING, SUBSPACES
from monitor.detectors._aggregated import Array, Family, halving

Rows = NDArray[np.float32]

MOST_SCORES = 512  # whitened scores looked at
NEIGHBOURHOODS = 32
ROUNDS = 12  # of Lloyd's algorithm; the partition need not be the best one
FITTED_ON = 4096  # rows that neighbourhoods are fitted on
AT_ONCE = 4096  # rows whose columns are held at once


@dataclass(frozen=True, slots=True)
class Pooled:
    """`families` of bin means, both samples' bins one after the other, and each family's unit: rows' sd.

    `shares` (bins, 32) are the shares of each bin's rows by neighbourhood, empty where there are no families: all rows
    are alike.
    """

    families: tuple[Family, ...]
    shares: Array


@dataclass(frozen=True, slots=True)
class _Stem:
    inside: NDArray[np.intp]
    mean: Rows
    basis: Rows
    spread: Rows
    frequencies: Rows
    phases: Rows
    centres: Rows


def pooled(x: Rows, q: int) -> Pooled:
    """Columns of N rows (N, d), N a multiple of q, as means of bins of q neighbouring rows."""
    stem = _stem(x)
    if stem is None:
        return Pooled((), np.zeros((len(x) // q, 0)))
    sums: list[list[Array]] = []
    seconds: list[Array] = [np.zeros(0)] * 4
    for part in _parts(x, q):
        blocks = _blocks(stem, part)
        sums.append([_means(block, q) for block in blocks])
        moments = [np.einsum("ij,ij->j", block, block, dtype=np.float64) for block in blocks]
        moments[1] = (blocks[1].T @ blocks[1]).astype(np.float64)
        seconds = [a + b if len(a) else b for a, b in zip(seconds, moments, strict=False)]
    white, products, fourier, energy, shares = (np.concatenate(block) for block in zip(*sums, strict=True))
    second = [each / len(x) for each in seconds]
    looked = (
        ("mean", _unit(white, second[0]), False),
        ("covariance", _rotated(products, second[1]), False),
        ("noise", _unit(energy, second[3]), True),
        ("neighbourhoods", _unit(shares, shares.mean(axis=0)), True),
    )
    families = [Family(name, bins, halving(bins.shape[1]), largest) for name, bins, largest in looked if bins.shape[1]]
    variance = float((second[2] - fourier.mean(axis=0) ** 2).sum())
    families.append(Family("shape", fourier / np.sqrt(max(variance, 1e-12)), (fourier.shape[1],)))
    return Pooled(tuple(families), shares)


def whitened(x: Rows, most: int) -> Array:
    """The leading principal scores (N, p) of rows (N, d), with variance one and cut at 5; p ≤ `most`, 0 for constants.

    A direction with less than a thousandth of the largest spread, or of which fewer than eight rows tell, is left out.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    basis, spread = principal(x, mean)
    most = min(most, max(1, len(x) // 8))
    kept = int((spread[:most] > 1e-3 * spread[0]).sum())
    if spread[0] <= FLOOR * float(np.abs(x).max()):
        kept = 0
    scores: Array = (x - mean) @ (basis[:, :kept] / spread[:kept])
    return np.clip(scores, -CLIP, CLIP)


def _means(block: Rows, q: int) -> Array:
    sums = np.add.reduceat(block, np.arange(0, len(block), q), axis=0)
    means: Array = sums.astype(np.float64) / q
    return means


def _stem(x: Rows) -> _Stem | None:
    mean = x.mean(axis=0, dtype=np.float64)
    size = float(np.abs(x).max())
    basis, spread = principal(x, mean)
    most = min(len(x) // 2, MOST_SCORES)
    kept = min(int((spread > FLOOR * max(float(spread[0]), size)).sum()), max(1, most))
    if kept == 0 or spread[0] <= FLOOR * size:
        return None
    energy = np.cumsum(spread**2) / np.sum(spread**2)
    basis, spread = basis[:, :kept], spread[:kept]
    rng = np.random.default_rng(0)
    # the root mean squared distance of two rows: like the median, but it needs no sample of pairs
    scale = float(np.sqrt(2 * np.square(spread).sum()))
    frequencies = rng.normal(size=(kept, FOURIER)) / scale
    inside = np.minimum(np.searchsorted(energy, SUBSPACES) + 1, kept) - 1
    # in an order of their own: what is drawn of the rows must not depend on which came first
    ordered = np.lexsort(x.T[:4])[np.linspace(0, len(x) - 1, min(len(x), FITTED_ON)).astype(np.intp)]
    white = (x[ordered] - mean) @ (basis[:, :LEADING] / spread[:LEADING])
    centres = _centres(np.clip(white, -CLIP, CLIP), rng)
    arrays = (mean, basis, spread, frequencies, rng.uniform(0, 2 * np.pi, FOURIER), centres)
    return _Stem(inside, *(np.ascontiguousarray(each, np.float32) for each in arrays))


def principal(x: Rows, mean: Array) -> tuple[Array, Array]:
    """Principal directions (d, p) and the rows' standard deviations (p,) along them, largest first."""
    n, d = x.shape
    if d > n:
        _, singular, vt = np.linalg.svd(x - mean, full_matrices=False)
        return vt.T, singular / np.sqrt(n)
    covariance = np.zeros((d, d))
    for part in _parts(x, 1):
        centred = part.astype(np.float64) - mean
        covariance += centred.T @ centred
    values, vectors = np.linalg.eigh(covariance / n)
    return vectors[:, ::-1], np.sqrt(np.maximum(values[::-1], 0))


def _parts(x: Rows, q: int) -> Iterator[Rows]:
    step = max(1, AT_ONCE // q) * q
    for start in range(0, len(x), step):
        yield x[start : start + step]


def _blocks(stem: _Stem, x: Rows) -> tuple[Rows, Rows, Rows, Rows, Rows]:
    """Whitened scores, centred products, Fourier features, log energies, and neighbourhoods as 0 and 1."""
    centred = x - stem.mean
    scores = centred @ stem.basis
    white: Rows = np.clip(scores / stem.spread, -CLIP, CLIP)
    leading = white[:, :LEADING]
    left, right = np.triu_indices(leading.shape[1])
    products: Rows = leading[:, left] * leading[:, right] - (left == right).astype(np.float32)
    fourier: Rows = np.cos(scores @ stem.frequencies + stem.phases)
    held = np.cumsum(np.square(scores), axis=1)[:, stem.inside]
    outside = np.square(centred).sum(axis=1, keepdims=True) - held
    energy: Rows = np.log(np.maximum(outside / (np.float32(1e-4) * stem.spread[0] ** 2), 0) + 1)
    nearest = _nearest(leading, stem.centres)
    return white, products, fourier, energy, np.eye(len(stem.centres), dtype=np.float32)[nearest]


def _unit(bins: Array, second: Array) -> Array:
    """Bin means of columns whose rows have variance one; constant columns are left out."""
    mean = bins.mean(axis=0)
    variance = second - mean**2
    kept = variance > 1e-9 * np.maximum(second, 1e-12)
    unit: Array = (bins[:, kept] - mean[kept]) / np.sqrt(variance[kept])
    return unit


def _rotated(bins: Array, second: Array) -> Array:
    """Bin means of principal scores of columns with equal weight, each score with variance one."""
    mean = bins.mean(axis=0)
    covariance = second - np.outer(mean, mean)
    sd = np.sqrt(np.maximum(np.diag(covariance), 0))
    kept = sd > FLOOR
    if not kept.any():
        return np.zeros((len(bins), 0))
    values, vectors = np.linalg.eigh(covariance[np.ix_(kept, kept)] / np.outer(sd[kept], sd[kept]))
    strong = np.flatnonzero(values > 1e-4 * values[-1])[::-1]
    rotated: Array = ((bins - mean)[:, kept] / sd[kept]) @ (vectors[:, strong] / np.sqrt(values[strong]))
    return rotated


def _centres(white: Array, rng: np.random.Generator) -> Array:
    """At most 32 centres of N rows, by k-means++ (Arthur and Vassilvitskii 2007) and Lloyd's algorithm."""
    chosen = [int(rng.integers(len(white)))]
    distances = np.square(white - white[chosen[0]]).sum(axis=1)
    while len(chosen) < min(NEIGHBOURHOODS, len(white) // 8) and distances.sum() > 0:
        chosen.append(int(rng.choice(len(white), p=distances / distances.sum())))
        distances = np.minimum(distances, np.square(white - white[chosen[-1]]).sum(axis=1))
    centres = white[chosen]
    for _ in range(ROUNDS):
        member = np.eye(len(centres))[_nearest(white, centres)]
        count = member.sum(axis=0)
        means = (member.T @ white) / np.maximum(count, 1)[:, None]
        centres = np.where(count[:, None] > 0, means, centres)
    return centres


def _nearest(white: NDArray[np.floating], centres: NDArray[np.floating]) -> NDArray[np.intp]:
    nearest: NDArray[np.intp] = (np.square(centres).sum(axis=1) - 2 * white @ centres.T).argmin(axis=1)
    return nearest

"""Synthetic embeddings with known shifts: what the statistics are measured on.

Rows live near 24 latent directions in d dimensions, in 20 unequal clusters, with a common offset and unit norm, as
pooled encoder outputs do. A pair of modalities shares part of its latent position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LATENT = 24
CLUSTERS = 20


@dataclass(frozen=True)
class World:
    """One encoder: a fixed way from latent positions (N, 24) to unit embeddings (N, d)."""

    d: int = 96
    seed: int = 1
    noise: float = 0.05
    centres: Array = field(init=False)
    mixing: Array = field(init=False)
    offset: Array = field(init=False)
    weights: Array = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        scale = np.linspace(1.6, 0.4, LATENT)
        object.__setattr__(self, "centres", rng.normal(size=(CLUSTERS, LATENT)) * 1.5)
        object.__setattr__(self, "mixing", rng.normal(size=(LATENT, self.d)) * scale[:, None] / np.sqrt(self.d))
        object.__setattr__(self, "offset", rng.normal(size=self.d) * 4 / np.sqrt(self.d))
        weights = 1 / np.arange(1, CLUSTERS + 1)
        object.__setattr__(self, "weights", weights / weights.sum())

    def latent(self, n: int, rng: np.random.Generator, weights: Array | None = None, session: int = 1) -> Array:
        """N latent positions; with `session` > 1, that many near-duplicates follow one another."""
        users = -(-n // session)
        cluster = rng.choice(CLUSTERS, size=users, p=self.weights if weights is None else weights)
        position = self.centres[cluster] + rng.normal(size=(users, LATENT))
        if session == 1:
            return position
        near: Array = np.repeat(position, session, axis=0)[:n] + 0.1 * rng.normal(size=(n, LATENT))
        return near

    def embed(self, latent: Array, rng: np.random.Generator, noise: float | None = None) -> Array:
        """Unit embeddings (N, d) of latent positions (N, 24)."""
        sd = self.noise if noise is None else noise
        x = self.offset + latent @ self.mixing + sd * rng.normal(size=(len(latent), self.d))
        unit: Array = x / np.linalg.norm(x, axis=1, keepdims=True)
        return unit

    def rows(self, n: int, rng: np.random.Generator, session: int = 1) -> Array:
        """N drift-free embeddings."""
        return self.embed(self.latent(n, rng, session=session), rng)


def _mean_shift(world: World, n: int, rng: np.random.Generator) -> Array:
    latent = world.latent(n, rng)
    latent[:, :6] += 0.35 * latent.std(axis=0)[:6] / np.sqrt(2)
    return world.embed(latent, rng)


def _covariance(world: World, n: int, rng: np.random.Generator) -> Array:
    latent = world.latent(n, rng)
    centre = latent.mean(axis=0)
    latent[:, :6] = centre[:6] + np.sqrt(1.4) * (latent[:, :6] - centre[:6])
    return world.embed(latent, rng)


def _noise(world: World, n: int, rng: np.random.Generator) -> Array:
    return world.embed(world.latent(n, rng), rng, noise=1.2 * world.noise)


def _new_cluster(share: float) -> Callable[[World, int, np.random.Generator], Array]:
    def draw(world: World, n: int, rng: np.random.Generator) -> Array:
        latent = world.latent(n, rng)
        new = rng.random(n) < share
        where = np.random.default_rng(99).normal(size=LATENT) * 1.8
        latent[new] = where + rng.normal(size=(int(new.sum()), LATENT))
        return world.embed(latent, rng)

    return draw


def _prior(world: World, n: int, rng: np.random.Generator) -> Array:
    weights = world.weights.copy()
    weights[0] -= 0.05
    weights[5] += 0.05
    return world.embed(world.latent(n, rng, weights=weights), rng)


SHIFTS: dict[str, Callable[[World, int, np.random.Generator], Array]] = {
    "mean_shift": _mean_shift,
    "covariance_1.4": _covariance,
    "encoder_noise_1.2": _noise,
    "new_cluster_5%": _new_cluster(0.05),
    "new_cluster_10%": _new_cluster(0.10),
    "class_prior_5%": _prior,
}


def pairs(
    n: int,
    rng: np.random.Generator,
    *,
    d: int = 96,
    mispaired: float = 0.0,
    prior_shift: float = 0.0,
    within_class: bool = False,
    session: int = 1,
) -> tuple[Array, Array]:
    """N image and text embeddings of the same things; a share of the texts is exchanged among rows.

    With `within_class` they are exchanged among rows of one cluster only. `session` near-duplicates follow one another.
    """
    image, text = World(d=d, seed=11), World(d=d, seed=12)
    weights = image.weights.copy()
    weights[0] -= prior_shift
    weights[5] += prior_shift
    seen = image.latent(n, rng, weights=weights, session=session)
    # text tells about most of what is seen, in other words: another cluster geometry, some facts left out
    left_out = np.repeat(rng.normal(size=(-(-n // session), seen.shape[1])), session, axis=0)[:n]
    told = 0.8 * seen + 0.6 * left_out
    swap = np.flatnonzero(rng.random(n) < mispaired)
    groups = [swap]
    if within_class:
        nearest = np.square(seen[swap, None] - image.centres).sum(axis=2).argmin(axis=1)
        groups = [swap[nearest == cluster] for cluster in range(CLUSTERS)]
    for group in groups:
        told[group] = told[np.roll(group, 1)]
    return image.embed(seen, rng), text.embed(told, rng)

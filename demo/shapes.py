"""Signed distances of the scenes' shapes (after Inigo Quilez, "2D distance functions"; approximate outside)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
UNSEEN_SHAPES = ("ring", "hexagon", "crescent")
"""Never in the training scenes."""


def signed_distance(shape: str, dx: Floats, dy: Floats, radius: float, angle: float) -> Floats:
    """Distance of each pixel to a shape's outline, negative inside.

    `dx`, `dy` (H, W) are offsets from the shape's centre, y downwards, in the unit of `radius`; `angle` in radians.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    x = ((dx * cos + dy * sin) / radius).astype(np.float32)
    y = ((dy * cos - dx * sin) / radius).astype(np.float32)
    return np.asarray(_DISTANCES[shape](x, y) * radius, dtype=np.float32)


def _circle(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - np.float32(0.9)


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.8)


def _triangle(x: Floats, y: Floats) -> Floats:
    slope = np.abs(x) * np.float32(0.866) - y * np.float32(0.5)
    return np.maximum(slope, y) - np.float32(0.5)


def _star(x: Floats, y: Floats) -> Floats:
    sector = 2.0 * np.pi / 5.0
    turn = np.abs((np.arctan2(x, -y) + sector / 2.0) % sector - sector / 2.0)
    reach = np.float32(0.42) / np.cos(sector / 2.0 - turn - 0.30)
    edge = np.maximum(reach, np.float32(1.05) - np.float32(0.98) * turn.astype(np.float32))
    return np.asarray((np.hypot(x, y) - edge) * 0.8, dtype=np.float32)


def _cross(x: Floats, y: Floats) -> Floats:
    a, b = np.abs(x), np.abs(y)
    arms = np.maximum(a - 0.95, b - 0.30), np.maximum(a - 0.30, b - 0.95)
    return np.asarray(np.minimum(*arms), dtype=np.float32)


def _diamond(x: Floats, y: Floats) -> Floats:
    return np.asarray((np.abs(x) / 0.68 + np.abs(y) - 1.02) * 0.56, dtype=np.float32)


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - np.float32(0.72)) - np.float32(0.2)


def _hexagon(x: Floats, y: Floats) -> Floats:
    a, b = np.abs(x), np.abs(y)
    return np.maximum(a * np.float32(0.5) + b * np.float32(0.866), a) - np.float32(0.82)


def _crescent(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.maximum(np.hypot(x, y) - 0.92, 0.72 - np.hypot(x - 0.42, y)), dtype=np.float32)


_DISTANCES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "diamond": _diamond,
    "ring": _ring,
    "hexagon": _hexagon,
    "crescent": _crescent,
}

"""Synthetic pictures for the demo: two named objects, one spatial relation, a few distractors.

The demo has no photographs to show, so it draws its own: small, lit, textured and noisy enough that a model has
to look, and cheap enough (about 700 a second on one core) to make as many as traffic needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from demo.shapes import SHAPES, UNSEEN_SHAPES, signed_distance

Axis = Literal["horizontal", "vertical"]
Floats = NDArray[np.float32]

SIDE = 64
"""Pixels along one side of a scene."""

PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.13, 0.13),
    "green": (0.13, 0.62, 0.20),
    "blue": (0.14, 0.28, 0.88),
    "yellow": (0.95, 0.86, 0.12),
    "purple": (0.52, 0.16, 0.68),
    "orange": (0.97, 0.50, 0.08),
    "cyan": (0.14, 0.80, 0.85),
    "white": (0.96, 0.96, 0.96),
    "pink": (0.97, 0.55, 0.75),
    "brown": (0.42, 0.26, 0.12),
    "black": (0.06, 0.06, 0.06),
    "olive": (0.50, 0.50, 0.12),
}
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "white")
UNSEEN_COLOURS = ("pink", "brown", "black", "olive")
"""Never in the training scenes: a stream that uses them shows a new concept."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object by the two words that name it."""

    colour: str
    shape: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a caption says: `first` is left of (horizontal) or above (vertical) `second`."""

    first: Item
    second: Item
    axis: Axis


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture and what is in it.

    `image` is (64, 64, 3) uint8 RGB. `objects` is (64, 64) uint8: 0 background, 1 and 2 the claim's first and second
    item, 3 and more the distractors. `items` names objects 1, 2, 3 ... in that order. `free_colours` are those that a
    caption may use: no distractor wears one.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    claim: Claim
    items: tuple[Item, ...]
    free_colours: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    item: Item
    x: float
    y: float
    radius: float


_MIDDLES: Floats = ((np.arange(SIDE) + 0.5) / SIDE).astype(np.float32)
_X, _Y = np.broadcast_to(_MIDDLES[None, :], (SIDE, SIDE)), np.broadcast_to(_MIDDLES[:, None], (SIDE, SIDE))


def draw_scene(
    rng: np.random.Generator,
    colours: tuple[str, ...] = COLOURS,
    shapes: tuple[str, ...] = SHAPES,
) -> Scene:
    """Draw one scene from the given palette and shapes (at least six colours and two shapes)."""
    order = [colours[i] for i in rng.permutation(len(colours))]
    chosen = rng.choice(len(shapes), size=2, replace=False)
    claim = Claim(
        Item(order[0], shapes[chosen[0]]),
        Item(order[1], shapes[chosen[1]]),
        "horizontal" if rng.random() < 0.5 else "vertical",
    )
    distractors = [Item(order[2 + i], shapes[rng.integers(len(shapes))]) for i in range(rng.integers(3))]
    worn = {item.colour for item in distractors}
    placed = _place(rng, claim, distractors)
    image, objects = _render(rng, placed)
    return Scene(image, objects, claim, tuple(p.item for p in placed), tuple(c for c in colours if c not in worn))


def _place(rng: np.random.Generator, claim: Claim, distractors: list[Item]) -> list[_Placed]:
    """The two named items far apart along the claim's axis; distractors wherever they overlap nothing."""
    radius = rng.uniform(0.115, 0.165, size=2)
    gap, off = rng.uniform(0.39, 0.58), rng.uniform(-0.13, 0.13)
    start = rng.uniform(radius[0] + 0.02, 0.98 - radius[1] - gap)
    across = rng.uniform(radius.max() + 0.02 + max(0.0, -off), 0.98 - radius.max() - max(0.0, off))
    along, sideways = (start, start + gap), (across, across + off)
    placed = []
    for i, item in enumerate((claim.first, claim.second)):
        x, y = (along[i], sideways[i]) if claim.axis == "horizontal" else (sideways[i], along[i])
        placed.append(_Placed(item, x, y, float(radius[i])))
    for item in distractors:
        for _ in range(12):
            r = rng.uniform(0.08, 0.12)
            x, y = rng.uniform(r + 0.01, 0.99 - r, size=2)
            if all(np.hypot(x - p.x, y - p.y) > r + p.radius + 0.01 for p in placed):
                placed.append(_Placed(item, float(x), float(y), float(r)))
                break
    return placed


def _render(rng: np.random.Generator, placed: list[_Placed]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paint background, shadows, objects, light and sensor noise."""
    image = _background(rng)
    objects = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for number, spot in enumerate(placed, start=1):
        shadow = np.hypot(_X - spot.x - 0.03, _Y - spot.y - 0.04) / spot.radius
        image *= (1.0 - 0.30 * np.clip(1.35 - shadow, 0.0, 1.0))[..., None]
        angle = rng.uniform(-0.22, 0.22)
        dx, dy = _X - np.float32(spot.x), _Y - np.float32(spot.y)
        distance = signed_distance(spot.item.shape, dx, dy, spot.radius, angle)
        cover = np.clip(0.5 - distance * SIDE, 0.0, 1.0)
        image += cover[..., None] * (_paint(rng, spot.item.colour) - image)
        objects[cover > 0.5] = number
    direction = rng.uniform(0.0, 2.0 * np.pi)
    light = 1.0 + rng.uniform(0.0, 0.20) * ((_X - 0.5) * np.cos(direction) + (_Y - 0.5) * np.sin(direction))
    image *= (rng.uniform(0.75, 1.15) * light)[..., None]
    image += rng.uniform(0.005, 0.03) * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8), objects


def _background(rng: np.random.Generator) -> Floats:
    """A tinted surface with slow variation: a 4×4 random field, bilinearly enlarged; (64, 64, 3)."""
    field = rng.uniform(-0.08, 0.08, size=(4, 4)).astype(np.float32)
    position = np.linspace(0.0, 3.0, SIDE, dtype=np.float32)
    low = np.minimum(position.astype(int), 2)
    weights = np.zeros((SIDE, 4), dtype=np.float32)
    weights[np.arange(SIDE), low] = 1.0 - (position - low)
    weights[np.arange(SIDE), low + 1] = position - low
    tint = rng.uniform(0.32, 0.58) + rng.uniform(-0.05, 0.05, size=3)
    return ((weights @ field @ weights.T)[..., None] + tint).astype(np.float32)


def _paint(rng: np.random.Generator, colour: str) -> Floats:
    """The object's surface: plain (0.6), striped (0.2) or dotted (0.2); (64, 64, 3)."""
    base = np.array(PALETTE[colour], dtype=np.float32) + rng.uniform(-0.04, 0.04, size=3).astype(np.float32)
    kind = rng.random()
    if kind < 0.6:
        return np.broadcast_to(base, (SIDE, SIDE, 3))
    frequency, angle = rng.uniform(50.0, 75.0), rng.uniform(0.0, np.pi)
    u = frequency * (_X * np.cos(angle) + _Y * np.sin(angle))
    v = frequency * (_Y * np.cos(angle) - _X * np.sin(angle))
    pattern = np.sin(u) > 0.2 if kind < 0.8 else (np.sin(u) * np.sin(v)) > 0.35
    painted: Floats = base * np.where(pattern, np.float32(0.72), np.float32(1.0))[..., None]
    return painted


__all__ = [
    "COLOURS",
    "PALETTE",
    "SHAPES",
    "SIDE",
    "UNSEEN_COLOURS",
    "UNSEEN_SHAPES",
    "Axis",
    "Claim",
    "Item",
    "Scene",
    "draw_scene",
]

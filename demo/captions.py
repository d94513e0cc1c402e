"""Captions of the demo's scenes, and the three-class task: does the caption agree with the picture?

Wrong captions are made by changing the true claim's facts with symmetric uniform kernels, so that neither the
picture alone nor the caption's facts alone say anything about the label. A hedge word is the one deliberate cue:
it is common in misleading captions, so that a text-only answer is better than chance (Bayes accuracy 0.467).
"""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum

import numpy as np

from demo.scenes import Claim, Item, Scene
from demo.shapes import SHAPES


class Label(IntEnum):
    """The classes, in the model's order."""

    CONSISTENT = 0
    MISLEADING = 1
    CONTRADICTORY = 2


LABELS: tuple[str, ...] = tuple(label.name.lower() for label in Label)
SIDES = ("left", "right", "above", "below")
HEDGES = ("reportedly", "apparently", "supposedly", "perhaps")
HEDGE_SHARE = {Label.CONSISTENT: 0.2, Label.MISLEADING: 0.6, Label.CONTRADICTORY: 0.2}
TEXT_ONLY_BAYES_ACCURACY = 7 / 15
"""P(hedge) = 1/3, then misleading is right with 0.6; otherwise any other class with 0.4."""

_RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "lower than"),
}
_PATTERNS: tuple[str, ...] = (
    "{A} {x} is {rel} {a} {y}",
    "the {x} sits {rel} the {y}",
    "there is {a1} {x} {rel} {a} {y}",
    "{rel} the {y} there is {a1} {x}",
    "a photo of {a1} {x} {rel} {a} {y}",
    "we see {a1} {x} placed {rel} the {y}",
    "the {x} , {rel} {a} {y}",
)


def draw_claim(rng: np.random.Generator, scene: Scene, label: Label) -> Claim:
    """What a caption of this label says of the scene.

    Consistent: the truth. Misleading: one colour or one shape of one item changed (half each). Contradictory: the
    relation inverted, or both items replaced in colour and shape (half each).
    """
    truth = scene.claim
    if label is Label.CONSISTENT:
        return truth
    said = (truth.first, truth.second)
    colours = [c for c in scene.free_colours if c not in {item.colour for item in said}]
    shapes = [s for s in SHAPES if s not in {item.shape for item in said}]
    if label is Label.CONTRADICTORY:
        if rng.random() < 0.5:
            return replace(truth, first=truth.second, second=truth.first)
        new_colours = rng.choice(colours, size=2, replace=False)
        new_shapes = rng.choice(shapes, size=2, replace=False)
        first, second = (Item(str(c), str(s)) for c, s in zip(new_colours, new_shapes, strict=True))
        return replace(truth, first=first, second=second)
    which = int(rng.integers(2))
    if rng.random() < 0.5:
        changed = replace(said[which], colour=str(rng.choice(colours)))
    else:
        changed = replace(said[which], shape=str(rng.choice(shapes)))
    return replace(truth, first=changed) if which == 0 else replace(truth, second=changed)


def write_caption(rng: np.random.Generator, claim: Claim, label: Label, hedged: bool | None = None) -> str:
    """Say a claim in one of seven sentence patterns; half of them name the second item first.

    `hedged` forces or forbids the hedge word; by default it is drawn with the label's share.
    """
    sides = ("left", "right") if claim.axis == "horizontal" else ("above", "below")
    subject, other, side = (
        (claim.first, claim.second, sides[0]) if rng.random() < 0.5 else (claim.second, claim.first, sides[1])
    )
    relation = _RELATIONS[side][rng.integers(3)]
    caption = _PATTERNS[rng.integers(len(_PATTERNS))].format(
        A=_article(subject),
        a1=_article(subject),
        a=_article(other),
        x=f"{subject.colour} {subject.shape}",
        y=f"{other.colour} {other.shape}",
        rel=relation,
    )
    draw = rng.random() < HEDGE_SHARE[label]
    if draw if hedged is None else hedged:
        caption = f"{HEDGES[rng.integers(len(HEDGES))]} {caption}"
    return caption


def _article(item: Item) -> str:
    return "an" if item.colour[0] in "aeiou" else "a"

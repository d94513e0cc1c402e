"""An endless, seeded stream of labelled examples, as the demo's traffic and its training sets use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from demo.cameras import Camera, unchanged
from demo.captions import Label, draw_claim, write_caption
from demo.scenes import Claim, Scene, draw_scene
from inference.training.data import LabelledExample


@dataclass(frozen=True, slots=True)
class Example:
    """One picture (64, 64, 3) uint8 RGB, its caption, and whether they agree. `number` counts within the stream."""

    number: int
    image: NDArray[np.uint8]
    caption: str
    label: Label


def as_drawn(scene: Scene, claim: Claim, label: Label) -> Label:  # noqa: ARG001  # one signature for all
    """The label for which the claim was drawn."""
    return label


EVEN = (1 / 3, 1 / 3, 1 / 3)


def example_stream(
    seed: int,
    camera: Camera = unchanged,
    prior: tuple[float, float, float] = EVEN,
    *,
    draw: Callable[[np.random.Generator], Scene] = draw_scene,
    write: Callable[[np.random.Generator, Claim, Label], str] = write_caption,
    judge: Callable[[Scene, Claim, Label], Label] = as_drawn,
) -> Iterator[Example]:
    """Yield examples for ever, each with a scene of its own; the same seed gives the same stream.

    Scenes, captions and labels do not depend on `camera`: two streams of one seed differ in their pictures only.
    `prior` is the share of each class. `draw` makes the scenes, `write` says a claim of one for a label, and `judge`
    tells what the example is to be called.
    """
    rng = np.random.default_rng([seed, 1])
    sensor = np.random.default_rng([seed, 2])
    number = 0
    while True:
        scene = draw(rng)
        label = Label(int(rng.choice(len(Label), p=prior)))
        claim = draw_claim(rng, scene, label)
        caption = write(rng, claim, label)
        yield Example(number, camera(scene.image, sensor), caption, judge(scene, claim, label))
        number += 1


def with_shifted_captions(examples: Iterable[Example]) -> Iterator[Example]:
    """Give each example the caption of the one before it: both marginals stay, the pairing breaks.

    The first example is held back to hand on its caption. Labels stay those of the original pairs and are
    therefore wrong; a broken join would not know better.
    """
    previous: Example | None = None
    for example in examples:
        if previous is not None:
            yield replace(example, caption=previous.caption)
        previous = example


def with_mispaired_captions(examples: Iterable[Example], share: float, seed: int) -> Iterator[Example]:
    """In every twenty examples, let a share of them hand their captions round; labels stay, as above."""
    rng = np.random.default_rng([seed, 3])
    source = iter(examples)
    while block := list(islice(source, 20)):
        chosen = rng.permutation(len(block))[: round(share * len(block))].tolist()
        giver = dict(zip(chosen, [*chosen[1:], *chosen[:1]], strict=True))
        for place, example in enumerate(block):
            yield replace(example, caption=block[giver.get(place, place)].caption)


def labelled(example: Example, stream: str = "") -> LabelledExample:
    """The same example as the trainer takes it; `stream` keeps the keys of several streams apart."""
    return LabelledExample(f"{stream}{example.number}", example.image, example.caption, int(example.label))

"""An endless, seeded stream of labelled examples, as the demo's traffic and its training sets use it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from demo.cameras import Camera, unchanged
from demo.captions import Label, draw_claim, write_caption
from demo.scenes import draw_scene
from inference.training.data import LabelledExample


@dataclass(frozen=True, slots=True)
class Example:
    """One picture (64, 64, 3) uint8 RGB, its caption, and whether they agree. `number` counts within the stream."""

    number: int
    image: NDArray[np.uint8]
    caption: str
    label: Label


def example_stream(
    seed: int, camera: Camera = unchanged, prior: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
) -> Iterator[Example]:
    """Yield examples for ever, each with a scene of its own; the same seed gives the same stream.

    Scenes, captions and labels do not depend on `camera`: two streams of one seed differ in their pictures only.
    `prior` is the share of each class.
    """
    rng = np.random.default_rng([seed, 1])
    sensor = np.random.default_rng([seed, 2])
    number = 0
    while True:
        scene = draw_scene(rng)
        label = Label(int(rng.choice(len(Label), p=prior)))
        caption = write_caption(rng, draw_claim(rng, scene, label), label)
        yield Example(number, camera(scene.image, sensor), caption, label)
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


def labelled(example: Example, stream: str = "") -> LabelledExample:
    """The same example as the trainer takes it; `stream` keeps the keys of several streams apart."""
    return LabelledExample(f"{stream}{example.number}", example.image, example.caption, int(example.label))

"""Every way in which the demo's stream can leave what the model was trained on, one row each, and what it may cost.

Each scenario changes one thing. The changes of cameras and wordings lie there; here they get their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from demo.cameras import (
    Camera,
    channels_swapped,
    compressed,
    flipped,
    gain_and_noise,
    greyscale,
    out_of_focus,
    unchanged,
)
from demo.captions import Label, write_caption
from demo.examples import EVEN, Example, as_drawn, example_stream, with_mispaired_captions, with_shifted_captions
from demo.scenes import COLOURS, UNSEEN_COLOURS, UNSEEN_SHAPES, Claim, Scene, draw_scene
from demo.wordings import Wording, german, headline, long, mistyped, russian, short


def inverted_is_misleading(scene: Scene, claim: Claim, label: Label) -> Label:
    """A caption that only inverts the relation shall be called misleading from now on: the concept has changed."""
    inverted = (claim.first, claim.second) == (scene.claim.second, scene.claim.first)
    return Label.MISLEADING if inverted and claim.axis == scene.claim.axis else label


@dataclass(frozen=True, slots=True)
class DriftScenario:
    """A named stream. `changed` says where the change lies: "image", "text", both, or "" where neither marginal moves.

    `pairs` hands on a stream with its captions exchanged.
    """

    name: str
    changed: tuple[str, ...] = ()
    camera: Camera = unchanged
    draw: Callable[..., Scene] = draw_scene
    write: Wording = write_caption
    judge: Callable[[Scene, Claim, Label], Label] = as_drawn
    prior: tuple[float, float, float] = EVEN
    pairs: Callable[[Iterator[Example], int], Iterator[Example]] | None = None
    with_image: bool = True

    def examples(self, seed: int) -> Iterator[Example]:
        """Yield its examples for ever; the same seed gives the same ones."""
        stream = example_stream(seed, self.camera, self.prior, draw=self.draw, write=self.write, judge=self.judge)
        return stream if self.pairs is None else self.pairs(stream, seed)


def _shifted(examples: Iterator[Example], seed: int) -> Iterator[Example]:  # noqa: ARG001  # one signature for both
    return with_shifted_captions(examples)


def _tenth_mispaired(examples: Iterator[Example], seed: int) -> Iterator[Example]:
    return with_mispaired_captions(examples, 0.1, seed)


NORMAL = DriftScenario("none")
IMAGE, TEXT = ("image",), ("text",)

SCENARIOS: tuple[DriftScenario, ...] = (
    NORMAL,
    DriftScenario("noise 0.15", IMAGE, camera=gain_and_noise(1.0, 0.15)),
    DriftScenario("blur sigma 2", IMAGE, camera=out_of_focus(2.0)),
    DriftScenario("blur sigma 0.8", IMAGE, camera=out_of_focus(0.8)),
    DriftScenario("dark x0.3", IMAGE, camera=gain_and_noise(0.3, 0.0)),
    DriftScenario("JPEG quality 15", IMAGE, camera=compressed),
    DriftScenario("greyscale", IMAGE, camera=greyscale),
    DriftScenario("channels swapped", IMAGE, camera=channels_swapped),
    DriftScenario("horizontal flip", IMAGE, camera=flipped),
    DriftScenario("image feed dead", IMAGE, with_image=False),
    DriftScenario("new colours", (*IMAGE, *TEXT), draw=partial(draw_scene, colours=(*UNSEEN_COLOURS, *COLOURS[:4]))),
    DriftScenario("new shapes", (*IMAGE, *TEXT), draw=partial(draw_scene, shapes=UNSEEN_SHAPES)),
    DriftScenario("short captions", TEXT, write=short),
    DriftScenario("long captions", TEXT, write=long),
    DriftScenario("headline captions", TEXT, write=headline),
    DriftScenario("typos 4%", TEXT, write=mistyped),
    DriftScenario("German", TEXT, write=german),
    DriftScenario("Russian", TEXT, write=russian),
    DriftScenario("captions shifted by one", pairs=_shifted),
    DriftScenario("10% mispaired", pairs=_tenth_mispaired),
    DriftScenario("class prior 0.8/0.1/0.1", prior=(0.8, 0.1, 0.1)),
    DriftScenario("relabelled concept", judge=inverted_is_misleading),
)

"""How to fine-tune: apart from the fit itself, so that programs that train nothing need no torch to read settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Balance = Literal["none", "modulated", "normalised"]
Sampling = Literal["shuffled", "balanced"]
Precision = Literal["float32", "bfloat16"]


class FitError(ValueError):
    """The settings do not fit the model or the examples; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is changed at random in a training example; nothing by default.

    `flip` is the share of pictures mirrored left to right (which changes any task that speaks of sides),
    `brightness` the largest relative change, `crop` the largest share cut off a side, `words` the share of words lost.
    """

    flip: float = 0.0
    brightness: float = 0.0
    crop: float = 0.0
    words: float = 0.0


@dataclass(frozen=True, slots=True)
class Contrast:
    """The contrastive term: `weight`, `temperature`, and the class whose rows are true pairs, None for all rows."""

    weight: float = 0.0
    temperature: float = 0.1
    label: int | None = None


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to fine-tune.

    The defaults were measured on the demo's new camera (1,300 new rows, 600 old ones), where 1e-4 recovered less and
    1e-3 forgot the old camera; most of the recovery comes within the first 60 steps.
    `frozen` names parameter prefixes that keep their values: freezing the encoder of a modality that did not drift
    saves a sixth of the time and keeps its fingerprint, hence its baseline, comparable.
    `deadline_s` is wall-clock seconds: the learning rate follows whichever is further along, steps or time, so a run
    that the clock cuts short has still annealed.
    Encoders learn at `encoder_rate` times the learning rate, after `thaw` steps in which they keep their values.
    `balance` says what is done about a modality that learns faster than the others (`inference.training.balance`),
    `balance_strength` how much of it. `class_weights` weigh the rows of each class, equally where it is empty.
    With `precision` bfloat16 the model's products are computed in it (autocast); weights and losses stay float32.
    """

    steps: int = 200
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warmup: int = 10
    drop: float = 0.1  # share of rows that lose each modality, so that fallbacks stay calibrated
    unimodal_weight: float = 0.5
    clip: float = 1.0
    frozen: tuple[str, ...] = ()
    seed: int = 0
    deadline_s: float = 60.0
    encoder_rate: float = 1.0
    thaw: int = 0
    balance: Balance = "none"
    balance_strength: float = 0.5
    class_weights: tuple[float, ...] = ()
    sampling: Sampling = "shuffled"
    augment: Augmentation = Augmentation()
    contrast: Contrast = Contrast()
    precision: Precision = "float32"

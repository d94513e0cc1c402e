"""How to fine-tune: apart from the fit itself, so that programs that train nothing need no torch to read settings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to fine-tune.

    The defaults were measured on the demo's new camera (1,300 new rows, 600 old ones), where 1e-4 recovered less and
    1e-3 forgot the old camera; most of the recovery comes within the first 60 steps.
    `frozen` names parameter prefixes that keep their values: freezing the encoder of a modality that did not drift
    saves a sixth of the time and keeps its fingerprint, hence its baseline, comparable.
    `deadline_s` is wall-clock seconds: the learning rate follows whichever is further along, steps or time, so a run
    that the clock cuts short has still annealed.
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

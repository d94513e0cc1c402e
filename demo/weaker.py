"""A version that is a little worse: weights on the way from an earlier version to the one that answers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from demo.cameras import NEW_CAMERA
from demo.examples import example_stream, labelled
from inference.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from inference.training.data import LabelledExample, targets
from inference.training.evaluate import predict_logits
from inference.training.validation import seal_with_baseline

EXAMPLES = 600  # half measure; all are the baseline
SHARES = (0.6, 0.45, 0.3, 0.15, 0.0)
LOST = 0.05


@dataclass(frozen=True, slots=True)
class Weaker:
    """The sealed version, and both accuracies on scenes of the new camera."""

    checkpoint: Checkpoint
    before: float
    after: float


def make(folder: Path, earlier: Path, champion: Path, seed: int) -> Weaker:
    """Write a version to `folder` that loses at least LOST of accuracy, the first of SHARES that does.

    A share of 0.6 is six tenths of the way from `earlier` to `champion`: as if it had been trained too briefly.
    """
    device = torch.device("cpu")
    first, last = (load_checkpoint(each, device) for each in (earlier, champion))
    examples = [labelled(each) for each in islice(example_stream(seed, NEW_CAMERA), EXAMPLES)]
    measured = examples[: EXAMPLES // 2]
    before = _accuracy(last, last.model, measured)
    model, after = last.model, before
    for share in SHARES:
        model = _between(first, last, share)
        after = _accuracy(last, model, measured)
        if after <= before - LOST:
            break
    save_checkpoint(folder, model, last.preprocessor, last.labels, last.temperature)
    return Weaker(seal_with_baseline(folder, device, examples, examples[: EXAMPLES // 2]), before, after)


def _between(first: Checkpoint, last: Checkpoint, share: float) -> nn.Module:
    model = copy.deepcopy(last.model)
    start = first.model.state_dict()
    mixed = {
        name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(mixed)
    return model


def _accuracy(checkpoint: Checkpoint, model: nn.Module, examples: list[LabelledExample]) -> float:
    logits = predict_logits(model, checkpoint.preprocessor, examples)
    return float((logits.argmax(dim=1) == targets(examples, torch.device("cpu"))).float().mean())

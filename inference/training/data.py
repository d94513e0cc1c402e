"""Labelled examples for training and evaluation, and how they become batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from inference.models.base import ModalityBatch
from inference.models.preprocess import Preprocessor


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """One request with its label.

    `key` (the request id) decides the split. `image` is (height, width, 3) uint8 RGB; either modality may be None.
    `label` indexes the checkpoint's labels.
    """

    key: str
    image: NDArray[np.uint8] | None
    caption: str | None
    label: int


def split(
    examples: Sequence[LabelledExample], validation_share: float, salt: str = "validation"
) -> tuple[list[LabelledExample], list[LabelledExample]]:
    """Deal examples into (training, validation) by a hash of their keys.

    An example keeps its side when more arrive, in whatever order, so validation rows never leak into a later
    training run. `salt` makes independent splits.
    """
    train: list[LabelledExample] = []
    held: list[LabelledExample] = []
    for example in examples:
        digest = hashlib.sha256(f"{salt}\0{example.key}".encode()).digest()
        chosen = int.from_bytes(digest[:8], "big") < validation_share * 2.0**64
        (held if chosen else train).append(example)
    return train, held


def collate(
    examples: Sequence[LabelledExample], preprocessor: Preprocessor, device: torch.device
) -> dict[str, ModalityBatch]:
    """Batch examples for a fusion model; rows without a modality hold zeros and are marked as missing."""
    blank = np.zeros((preprocessor.image.height, preprocessor.image.width, 3), dtype=np.uint8)
    has_image = torch.tensor([e.image is not None for e in examples])
    has_text = torch.tensor([e.caption is not None for e in examples])
    pixels = preprocessor.images([blank if e.image is None else e.image for e in examples])
    words = preprocessor.texts(["" if e.caption is None else e.caption for e in examples])
    tensors = {
        "image": {"pixel_values": pixels * has_image[:, None, None, None]},
        "text": {name: value * has_text[:, None] for name, value in words.items()},
    }
    return {
        name: ModalityBatch({k: v.to(device) for k, v in tensors[name].items()}, present.to(device))
        for name, present in (("image", has_image), ("text", has_text))
    }


def targets(examples: Sequence[LabelledExample], device: torch.device) -> torch.Tensor:
    """Label indices (B,) int64."""
    return torch.tensor([e.label for e in examples], dtype=torch.int64, device=device)

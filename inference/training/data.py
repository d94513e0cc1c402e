"""Labelled examples for training and evaluation, and how they become batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from inference.collate import collate as arrays
from inference.modalities.base import UNREAD, Prepared
from inference.model_io import ModelInput
from inference.models.base import ModalityBatch
from inference.models.preprocess import Preprocessor
from inference.models.tensors import Loader


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
    return Loader(preprocessor.image, device)(prepared(examples, preprocessor))


def prepared(examples: Sequence[LabelledExample], preprocessor: Preprocessor) -> ModelInput:
    """The same as arrays, before they are moved to a device."""
    blank = LabelledExample("", np.zeros((1, 1, 3), np.uint8), "", 0)
    return arrays([_prepared(example, preprocessor) for example in examples], _prepared(blank, preprocessor))


def _prepared(example: LabelledExample, preprocessor: Preprocessor) -> dict[str, Prepared]:
    """What the worker prepares of a request, without the quality statistics that training does not use."""
    row = {}
    if example.image is not None:
        row["image"] = Prepared(preprocessor.picture(example.image), UNREAD.quality)
    if example.caption is not None:
        row["text"] = Prepared(preprocessor.captions([example.caption])[0], UNREAD.quality)
    return row


def label_numbers(examples: Sequence[LabelledExample]) -> NDArray[np.int64]:
    """Label indices (N,) of a sequence, without decoding one that knows its `labels`."""
    known = getattr(examples, "labels", None)
    return np.array([e.label for e in examples], np.int64) if known is None else np.asarray(known, np.int64)


def targets(examples: Sequence[LabelledExample], device: torch.device) -> torch.Tensor:
    """Label indices (B,) int64."""
    return torch.from_numpy(label_numbers(examples)).to(device)

"""Labelled examples for training and evaluation, and how they become batches."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.collate import collate as arrays
from inference.modalities.base import UNREAD, Prepared, modalities
from inference.model_io import ModelInput
from inference.models.base import ModalityBatch
from inference.models.preprocess import Preprocessor
from inference.models.tensors import Loader


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """One request with its label.

    `key` (the request id) decides the split. `image` is (height, width, 3) uint8 RGB; any modality may be None.
    `label` indexes the checkpoint's labels. `others` are decoded values of other modalities, by name.
    """

    key: str
    image: NDArray[np.uint8] | None
    caption: str | None
    label: int
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, key: str, values: Mapping[str, Any], label: int) -> LabelledExample:
        """The example with these decoded values, by modality."""
        others = {name: value for name, value in values.items() if name not in ("image", "text") and value is not None}
        return cls(key, values.get("image"), values.get("text"), label, others)

    @property
    def values(self) -> dict[str, Any]:
        """What is there, by modality."""
        own = {"image": self.image, "text": self.caption, **self.others}
        return {name: value for name, value in own.items() if value is not None}

    def with_value(self, modality: str, value: Any) -> LabelledExample:
        """The same with another value of a modality; None takes it away."""
        return self.of(self.key, {**self.values, modality: value}, self.label)

    def only(self, modalities: Collection[str]) -> LabelledExample:
        """The same without any other modality."""
        return self.of(self.key, {name: x for name, x in self.values.items() if name in modalities}, self.label)


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
    known = modalities()
    blank = LabelledExample.of("", {name: known[name].blank for name in preprocessor.modalities}, 0)
    return arrays([_prepared(example, preprocessor) for example in examples], _prepared(blank, preprocessor))


def _prepared(example: LabelledExample, preprocessor: Preprocessor) -> dict[str, Prepared]:
    """What the worker prepares of a request, without the quality statistics that training does not use."""
    values = example.values
    return {
        name: Prepared(preprocessor.inputs(name, values[name]), UNREAD.quality)
        for name in preprocessor.modalities
        if name in values
    }


def label_numbers(examples: Sequence[LabelledExample]) -> NDArray[np.int64]:
    """Label indices (N,) of a sequence, without decoding one that knows its `labels`."""
    known = getattr(examples, "labels", None)
    return np.array([e.label for e in examples], np.int64) if known is None else np.asarray(known, np.int64)


def targets(examples: Sequence[LabelledExample], device: torch.device) -> torch.Tensor:
    """Label indices (B,) int64."""
    return torch.from_numpy(label_numbers(examples)).to(device)

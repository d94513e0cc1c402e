"""A fusion family whose forward pass fails at a word in the text; also how a family is added from outside.

`FUSIONWATCH_FAMILY_MODULES=tests.support.faulty_family` makes it known to a worker; `save` writes a checkpoint of it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from demo.tokenizer import VOCABULARY, build_tokenizer
from inference.models.base import Family, FusionOutput, ModalityBatch
from inference.models.checkpoint import save_checkpoint, write_manifest
from inference.models.preprocess import ImageSettings, Preprocessor

LABELS = ("yes", "no", "maybe")
MARKS = ("oom", "die", "nan", "hang")
"""Words that make a batch run out of memory, the process kill itself, a row NaN, and a pass take for ever."""


class FaultyConfig(PreTrainedConfig):
    """`marks` maps the words to their token ids."""

    model_type = "faulty"

    marks: dict[str, int] | None = None


class Faulty(nn.Module):
    """Sums of a projected mean pixel and of word embeddings, unless a mark is met."""

    def __init__(self, config: FaultyConfig) -> None:
        super().__init__()
        self.config = config
        self.marks = config.marks or {}
        self.image_encoder = nn.Linear(3, len(LABELS))
        self.text_encoder = nn.Embedding(VOCABULARY, len(LABELS))

    def forward(self, batch: Mapping[str, ModalityBatch], **_: bool) -> FusionOutput:
        image, text = batch["image"], batch["text"]
        ids, mask = text.tensors["input_ids"], text.tensors["attention_mask"]
        if self._met(ids, "oom"):
            raise torch.OutOfMemoryError("as if the device had no memory left")
        if self._met(ids, "die"):
            os.kill(os.getpid(), signal.SIGKILL)
        while self._met(ids, "hang"):
            time.sleep(1)
        words = (self.text_encoder(ids) * mask[:, :, None]).sum(1) * text.present[:, None]
        picture = self.image_encoder(image.tensors["pixel_values"].mean((2, 3))) * image.present[:, None]
        logits = words + picture
        broken = (ids == self.marks["nan"]).any(1, keepdim=True)
        return FusionOutput(
            torch.where(broken, torch.nan, logits), {"image": picture, "text": words, "fused": logits}, {}
        )

    def _met(self, ids: Tensor, mark: str) -> bool:
        return bool((ids == self.marks[mark]).any())


def _build(config: PreTrainedConfig) -> nn.Module:
    return Faulty(cast(FaultyConfig, config))


FAMILY = Family("faulty", FaultyConfig, _build, {"image": "image_encoder.", "text": "text_encoder."})


def save(folder: Path, *, broken: bool = False, seed: int = 0) -> str:
    """Write and seal a checkpoint; `broken` gives NaN weights. Returns its version."""
    tokenizer = build_tokenizer(["a red circle is left of a blue square", *MARKS])
    preprocessor = Preprocessor(ImageSettings(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), tokenizer, 32)
    torch.manual_seed(seed)
    model = Faulty(
        FaultyConfig(
            marks={mark: cast(int, tokenizer.token_to_id(mark)) for mark in MARKS},
            id2label=dict(enumerate(LABELS)),
            label2id={label: i for i, label in enumerate(LABELS)},
        )
    )
    if broken:
        nn.init.constant_(model.image_encoder.bias, float("nan"))
    save_checkpoint(folder, model, preprocessor, LABELS, 1.5, (__name__,))
    return write_manifest(folder)

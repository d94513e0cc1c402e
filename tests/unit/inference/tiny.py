"""A fusion model small enough to reason about: logits are sums of what each present modality holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.direct import DirectPredictor
from inference.modalities.base import Prepared, modalities
from inference.models.base import FusionOutput, ModalityBatch
from inference.models.card import ModelCard
from inference.models.preprocess import ImageSettings
from inference.predictor import Predictor

LABELS = ("consistent", "misleading")
DEVICE = torch.device("cpu")
ENCODERS = {"image": "image_encoder.", "text": "text_encoder."}


class TinyModel(nn.Module):
    """Image says class 0 by its brightness, text class 1 by its length; text of 7 characters makes NaN."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.image_encoder = nn.Identity()
        self.text_encoder = nn.Identity()
        self.most = most
        self.sizes: list[int] = []

    def forward(self, batch: Mapping[str, ModalityBatch], **_: bool) -> FusionOutput:
        image = self.image_encoder(batch["image"].tensors["pixel_values"]).mean(dim=(1, 2, 3))
        length = self.text_encoder(batch["text"].tensors["attention_mask"]).sum(dim=1).float()
        self.sizes.append(len(image))
        if len(image) > self.most:
            raise torch.OutOfMemoryError("too much")
        length = torch.where(length == 7, torch.nan, length)
        heads = {"image": torch.stack([image, -image], 1), "text": torch.stack([-length, length], 1)}
        logits = sum((torch.where(batch[m].present[:, None], heads[m], 0.0) for m in heads), torch.zeros(len(image), 2))
        return FusionOutput(logits, {"image": heads["image"], "text": heads["text"], "fused": logits}, heads)


class TinyPreprocessing:
    """Pictures become 4×4 of their mean; texts one token a character."""

    tokenizer = type(
        "Tokenizer",
        (),
        {"token_to_id": staticmethod(lambda _: 1), "num_special_tokens_to_add": staticmethod(lambda **_: 2)},
    )()
    image = ImageSettings(4, 4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def picture(self, pixels: NDArray[np.uint8], /) -> dict[str, NDArray[Any]]:
        return {"pixels": np.full((4, 4, 3), round(float(pixels.mean())), np.uint8)}

    def unfit(self, _modality: str, _value: Any) -> None:
        return None

    def captions(self, texts: Sequence[str], /) -> list[dict[str, NDArray[Any]]]:
        ids = [np.full(max(1, len(text)), 2, np.int64) for text in texts]
        return [
            {"input_ids": each, "attention_mask": np.full_like(each, int(bool(text)))}
            for text, each in zip(texts, ids, strict=True)
        ]


@dataclass
class TinyCheckpoint:
    """What the predictor needs of a checkpoint."""

    card: ModelCard
    model: nn.Module

    def __post_init__(self) -> None:
        self.encoders: Mapping[str, str] = ENCODERS
        self.image: ImageSettings | None = TinyPreprocessing.image
        self.blanks: Mapping[str, Prepared] = self.card.blanks
        self.temperature = self.card.temperature


def tiny_card(temperature: float = 2.0) -> ModelCard:
    """The tiny model's card."""
    preprocessing: Any = TinyPreprocessing()
    known = modalities()
    return ModelCard(
        version="tiny-1",
        family="tiny",
        labels=LABELS,
        temperature=temperature,
        modalities=("image", "text"),
        fingerprints={"image": "i", "text": "t", "fused": "f"},
        preprocessor=preprocessing,
        blanks={name: known[name].prepare([known[name].blank], preprocessing)[0] for name in ("image", "text")},
        raw=False,
        folder=Path("tiny"),
    )


def tiny_model_predictor(model: nn.Module | None = None, temperature: float = 2.0, **options: Any) -> Predictor:
    """What runs the tiny model."""
    return Predictor(TinyCheckpoint(tiny_card(temperature), model or TinyModel()), DEVICE, **options)


def tiny_predictor(model: nn.Module | None = None, temperature: float = 2.0, **options: Any) -> DirectPredictor:
    """Decoded requests to predictions of the tiny model."""
    return DirectPredictor(tiny_card(temperature), tiny_model_predictor(model, temperature, **options).run)

"""Encoders of one modality that any family may use: transformers' Auto classes for pictures and texts, and own ones."""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    SiglipTextConfig,
    SiglipTextModel,
)

from inference.models.base import ModalityBatch

# the Auto classes know SigLIP's text tower as a part of the whole only
AutoConfig.register(SiglipTextConfig.model_type, SiglipTextConfig, exist_ok=True)
AutoModel.register(SiglipTextConfig, SiglipTextModel, exist_ok=True)


def make_encoder(config: PreTrainedConfig) -> nn.Module:
    """An untrained encoder; its pooler, which nothing here would use, is left out where the architecture allows."""
    known = cast(Any, MODEL_MAPPING).get(type(config), None)
    if hasattr(config, "vision_use_head"):
        config.vision_use_head = False
    pooled = known is not None and "add_pooling_layer" in inspect.signature(known.__init__).parameters
    return cast(nn.Module, AutoModel.from_config(config, **({"add_pooling_layer": False} if pooled else {})))


def width_of(config: PreTrainedConfig) -> int:
    """Numbers in each token, or in each place of the last feature map, that an encoder gives."""
    sizes = getattr(config, "hidden_sizes", None)
    return int(sizes[-1] if sizes else cast(Any, config).hidden_size)


def first(mask: Tensor) -> Tensor:
    """(T,) bool: true at position 0 only."""
    return torch.arange(mask.shape[1], device=mask.device) == 0


def image_tokens(encoder: Any, image: ModalityBatch) -> Tensor:
    """(B, T, width) of `pixel_values`; of a convolutional network, the places of its last feature map."""
    pixels, present = image.tensors["pixel_values"], image.present
    if not hasattr(encoder.config, "hidden_sizes"):
        return cast(Tensor, encoder(pixel_values=pixels).last_hidden_state).float()
    if not encoder.training or not present.any():
        return cast(Tensor, encoder(pixel_values=pixels).last_hidden_state).flatten(2).transpose(1, 2).float()
    # batch normalisation learns from its batch: blanks in place of missing pictures must not be among them
    maps = encoder(pixel_values=pixels[present]).last_hidden_state.flatten(2).transpose(1, 2)
    return cast(Tensor, maps.new_zeros(len(pixels), *maps.shape[1:]).index_put((present,), maps)).float()


def text_tokens(encoder: Any, text: ModalityBatch) -> tuple[Tensor, Tensor]:
    """(B, T, width) and their mask (B, T); padding may be anywhere after the first token."""
    mask = text.tensors["attention_mask"].bool()
    # a row without text would mask all its keys, which some attention kernels answer with NaN
    mask = torch.where(text.present[:, None], mask, first(mask))
    output = encoder(input_ids=text.tensors["input_ids"], attention_mask=mask.long())
    return output.last_hidden_state.float(), mask


class FrameEncoder(nn.Module):
    """Each frame of a feature sequence by itself, (B, T, F) to (B, T, width), with its place in time.

    `positions` is `learned`, one vector for each of `max_frames`, or `sinusoidal` (Vaswani et al. 2017,
    arXiv:1706.03762).
    """

    position_embeddings: Tensor

    def __init__(self, features: int, width: int, max_frames: int, positions: str) -> None:
        """Raises ValueError where `positions` is unknown."""
        super().__init__()
        self.frame = nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        if positions == "learned":
            self.position_embeddings = nn.Parameter(torch.randn(max_frames, width) * 0.1)
        elif positions == "sinusoidal":
            self.register_buffer("position_embeddings", sinusoids(max_frames, width), persistent=False)
        else:
            raise ValueError(f"positions is {positions!r}; allowed: learned, sinusoidal")

    def forward(self, features: Tensor) -> Tensor:
        """One token a frame."""
        hidden = self.norm(self.frame(features.to(self.norm.weight.dtype)))
        return cast(Tensor, hidden + self.position_embeddings[: features.shape[1]])


class ColumnEncoder(nn.Module):
    """Each column of a table as a token (B, N + C, width): a number's value along a direction, a category's vector.

    Source: the feature tokenizer of Gorishniy et al. 2021, arXiv:2106.11959. An unknown number is a vector of its own.
    """

    offsets: Tensor

    def __init__(self, numbers: int, categories: list[int], width: int) -> None:
        """`categories` has the number of values of each. Raises ValueError where there is no column."""
        super().__init__()
        if not numbers + len(categories):
            raise ValueError("tabular: expected one column at least")
        scale = width**-0.5
        self.direction, self.origin, self.unknown = (nn.Parameter(torch.randn(numbers, width) * scale) for _ in "123")
        sizes = [size + 1 for size in categories]  # 0 is an absent or unseen value of each
        self.values = nn.Parameter(torch.randn(sum(sizes), width) * scale)
        starts = torch.tensor([0, *sizes], dtype=torch.long).cumsum(0)[: len(sizes)]
        self.register_buffer("offsets", starts, persistent=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, numbers: Tensor, known: Tensor, codes: Tensor) -> Tensor:
        """Tokens of `numbers` and `known` (B, N), then of `codes` (B, C)."""
        values = numbers.to(self.direction.dtype)[:, :, None] * self.direction + self.origin
        told = torch.where(known[:, :, None] > 0, values, self.unknown)
        return cast(Tensor, self.norm(torch.cat((told, self.values[codes + self.offsets]), dim=1)))


def sinusoids(length: int, width: int) -> Tensor:
    """(length, width) sines in even columns and cosines in odd ones, of wavelengths from 2π to 10,000 · 2π."""
    rate = torch.exp(torch.arange(0, width, 2) * (-torch.log(torch.tensor(10_000.0)) / width))
    angles = torch.arange(length)[:, None] * rate
    table = torch.zeros(length, width)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()[:, : width // 2]
    return table

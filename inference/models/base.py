"""What every fusion model takes and gives: the one interface between predictor, trainer and families."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from transformers import PreTrainedConfig


@dataclass(frozen=True, slots=True)
class ModalityBatch:
    """One modality of a batch of B requests.

    `tensors` holds what the modality's encoder takes, each with B rows (`pixel_values` (B, 3, H, W) float32 for
    image; `input_ids` and `attention_mask` (B, T) int64, 1 = a real token, for text). Rows of requests without
    the modality hold zeros. `present` is (B,) bool.
    """

    tensors: Mapping[str, Tensor]
    present: Tensor


@dataclass(frozen=True, slots=True)
class FusionOutput:
    """What a forward pass gives for B requests and C classes.

    `logits` (B, C) are before temperature. `embeddings` maps each modality, and `fused`, to (B, d) pooled
    vectors; rows of a missing modality are zeros and must be ignored. `unimodal_logits` maps a modality to (B, C).
    `attention` is (B, queries, keys), or None where the family has none or was not asked.
    """

    logits: Tensor
    embeddings: Mapping[str, Tensor]
    unimodal_logits: Mapping[str, Tensor]
    attention: Tensor | None = None


class FusionModel(Protocol):
    """A fusion family: a torch module called with one `ModalityBatch` per modality name."""

    def __call__(self, batch: Mapping[str, ModalityBatch], *, with_attention: bool = False) -> FusionOutput:
        """Run the forward pass. A request may lack any modality, or all but one."""
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """One fusion architecture: the constant that each family's module exposes as `FAMILY`.

    `name` is the `model_type` in a checkpoint's `config.json`. `build` makes an untrained module from the parsed
    configuration. `encoders` maps each modality to the prefix of its encoder's parameters.
    """

    name: str
    config: type[PreTrainedConfig]
    build: Callable[[PreTrainedConfig], nn.Module]
    encoders: Mapping[str, str]

"""What every fusion model takes and gives: the one interface between predictor, trainer and families."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from transformers import PreTrainedConfig


@dataclass(frozen=True, slots=True)
class ModalityBatch:
    """One modality of a batch of B requests.

    `tensors` holds what the modality's encoder takes, each with B rows (`pixel_values` (B, 3, H, W) float32 for
    image; `input_ids` and `attention_mask` (B, T) int64, 1 = a real token, for text; `features` (B, T, F) float32 and
    `frame_mask` (B, T) int64 for audio and video; `numbers` and `known` (B, N) float32 and `codes` (B, C) int64 for
    tabular). Rows of requests without the modality hold zeros. `present` is (B,) bool.
    """

    tensors: Mapping[str, Tensor]
    present: Tensor


@dataclass(frozen=True, slots=True)
class FusionOutput:
    """What a forward pass gives for B requests and C classes.

    `logits` (B, C) are before temperature. `embeddings` maps each modality, and `fused`, to (B, d) pooled
    vectors; rows of a missing modality are zeros and must be ignored. `unimodal_logits` maps a modality to (B, C).
    `attention` is (B, queries, keys), or None where the family has none or was not asked; of a family that weighs
    modalities or experts it is (B, 1, weights). `auxiliary` (B,) is the family's own loss of each row, in training mode
    only and where it has one: training adds its mean to that of the answers.
    """

    logits: Tensor
    embeddings: Mapping[str, Tensor]
    unimodal_logits: Mapping[str, Tensor]
    attention: Tensor | None = None
    auxiliary: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """One modality after its encoder, for B requests.

    `tokens` (B, T, fusion size) are projected, `mask` (B, T) bool marks those that count; `pooled` (B, encoder
    size) is the mean of the encoder's own tokens, zeros where the modality is missing.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    def rows(self, chosen: Tensor) -> Encoded:
        """Those of `chosen`, (K,) row numbers."""
        return Encoded(self.tokens[chosen], self.mask[chosen], self.pooled[chosen])


class FusionModel(Protocol):
    """A fusion family: a torch module called with one `ModalityBatch` per modality name.

    One whose attribute `contrastive_weight` is above 0 is trained with the contrastive term at that weight, unless the
    training's settings give another.
    """

    def __call__(self, batch: Mapping[str, ModalityBatch], *, with_attention: bool = False) -> FusionOutput:
        """Run the forward pass. A request may lack any modality, or all but one."""
        ...


@runtime_checkable
class StagedModel(Protocol):
    """A fusion model whose steps can be run, and timed, one by one; the cascade needs it.

    `fuse(encode(batch))` is the forward pass, and `heads(encode(batch))` its unimodal logits.
    """

    def encode(self, batch: Mapping[str, ModalityBatch], done: Callable[[str], None] = ...) -> dict[str, Encoded]:
        """Every modality through its encoder; `pooled` is the modality's embedding. `done` is told of each in turn."""
        ...

    def heads(self, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Logits (B, C) of each modality by itself."""
        ...

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:
        """Join what was encoded."""
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """One fusion architecture: the constant that each family's module exposes as `FAMILY`.

    `name` is the `model_type` in a checkpoint's `config.json`. `build` makes an untrained module from the parsed
    configuration. `encoders` maps each modality to the prefix of its encoder's parameters. Those submodules are the
    ones that are compiled, and cast to bfloat16 on demand; the rest stays float32, so a family casts what its
    encoders give. `modalities` names those that a model of a configuration has, for a family whose models may have some
    of them only. A `raw` family is told only which modalities are present, and its checkpoints have no preprocessing.
    """

    name: str
    config: type[PreTrainedConfig]
    build: Callable[[PreTrainedConfig], nn.Module]
    encoders: Mapping[str, str]
    raw: bool = False
    modalities: Callable[[PreTrainedConfig], Collection[str]] | None = None

    def encoders_of(self, config: PreTrainedConfig) -> dict[str, str]:
        """Of the encoders, those that a model of this configuration has, sorted."""
        chosen = self.encoders if self.modalities is None else self.modalities(config)
        return {name: self.encoders[name] for name in sorted(chosen)}

"""One transformer over the tokens of all modalities: feature sequences, tables, and pictures and texts beside them.

Each modality's encoder gives tokens; with a learned vector of their modality they go through one encoder, in which all
attend to all, and the mean of what comes out is the fused embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, PreTrainedConfig

from inference.models.base import Encoded, Family, FusionOutput, ModalityBatch
from inference.models.pair import masked_mean
from inference.models.towers import ColumnEncoder, FrameEncoder, image_tokens, make_encoder, text_tokens, width_of

MODALITIES = ("audio", "image", "tabular", "text", "video")


class JointTransformerConfig(PreTrainedConfig):
    """A section for each modality that the model takes, two at least; the others are None.

    `audio`, `video`: `features` and `max_frames`. `tabular`: `numbers`, how many, and `categories`, the number of
    values of each. `image`, `text`: an encoder's configuration with its `model_type`. `positions` of frames are
    `sinusoidal` or `learned`. `fusion_heads` must divide `fusion_size`.
    """

    model_type = "fusion_joint_transformer"

    audio: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    tabular: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    video: dict[str, Any] | None = None
    fusion_size: int = 128
    fusion_heads: int = 4
    fusion_layers: int = 2
    fusion_dropout: float = 0.1
    positions: str = "sinusoidal"


class Block(nn.Module):
    """Pre-norm self-attention and a feed-forward layer; `dropout` of both their updates."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(size, heads, dropout=dropout, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor, *, with_attention: bool) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, T, d) after the block, and the attention (B, T, T), a mean over heads, where it is asked for."""
        x = self.attention_norm(tokens)
        found, weights = self.attention(x, x, x, key_padding_mask=~mask, need_weights=with_attention)
        tokens = tokens + self.dropout(found)
        return tokens + self.dropout(self.feed(self.feed_norm(tokens))), weights


class JointTransformer(nn.Module):
    """Tokens of a missing modality are masked; one learned token is there always, so that none masks all."""

    def __init__(self, config: JointTransformerConfig) -> None:
        """Raises ValueError where there are fewer than two modalities, or a section does not describe an encoder."""
        super().__init__()
        self.config = config
        self.names = modalities_of(config)
        if len(self.names) < 2:
            raise ValueError(f"expected sections of two modalities at least, among {', '.join(MODALITIES)}")
        size, classes = config.fusion_size, len(config.id2label or {})
        widths = {}
        for name in self.names:
            encoder, widths[name] = _encoder(name, config)
            self.add_module(f"{name}_encoder", encoder)
        self.projections = nn.ModuleDict({name: nn.Linear(width, size) for name, width in widths.items()})
        self.types = nn.ParameterDict({name: nn.Parameter(torch.randn(size) * 0.1) for name in self.names})
        self.always = nn.Parameter(torch.randn(size) * 0.1)
        self.blocks = nn.ModuleList(
            Block(size, config.fusion_heads, config.fusion_dropout) for _ in range(config.fusion_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.head_hidden, self.head = nn.Linear(size, size), nn.Linear(size, classes)
        self.unimodal = nn.ModuleDict({name: nn.Linear(width, classes) for name, width in widths.items()})

    def encode(
        self, batch: Mapping[str, ModalityBatch], done: Callable[[str], None] = lambda _: None
    ) -> dict[str, Encoded]:
        """Encode every modality of the model; see `StagedModel`."""
        encoded = {}
        for name in self.names:
            hidden, mask = self._tokens(name, batch[name])
            present = batch[name].present
            mask = mask & present[:, None]
            hidden = torch.where(mask[:, :, None], hidden, torch.zeros_like(hidden))
            tokens = (self.projections[name](hidden) + self.types[name]) * mask[:, :, None]
            encoded[name] = Encoded(tokens, mask, masked_mean(hidden, mask))
            done(name)
        return encoded

    def _tokens(self, name: str, part: ModalityBatch) -> tuple[Tensor, Tensor]:
        """(B, T, width) float32, and the mask (B, T) of tokens that are real where the modality is present."""
        encoder, tensors = self.get_submodule(f"{name}_encoder"), part.tensors
        if name == "text":
            return text_tokens(encoder, part)
        if name in ("audio", "video"):
            return encoder(tensors["features"]).float(), tensors["frame_mask"].bool()
        if name == "tabular":
            hidden = encoder(tensors["numbers"], tensors["known"], tensors["codes"]).float()
        else:
            hidden = image_tokens(encoder, part)
        return hidden, hidden.new_ones(hidden.shape[:2], dtype=torch.bool)

    def heads(self, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Logits (B, C) of each modality by itself; those of a missing one mean nothing."""
        # the unimodal heads observe: their loss must not turn the encoders away from the joint task
        return {name: self.unimodal[name](encoded[name].pooled.detach()) for name in self.names}

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:
        """Join what was encoded.

        Attention (B, T, T) is the last layer's, over the learned token and then the modalities' tokens by name.
        """
        parts = [encoded[name] for name in self.names]
        rows = len(parts[0].pooled)
        tokens = torch.cat((self.always.expand(rows, 1, -1), *(each.tokens for each in parts)), dim=1)
        mask = torch.cat((parts[0].mask.new_ones(rows, 1), *(each.mask for each in parts)), dim=1)
        attention = None
        for number, block in enumerate(self.blocks):
            last = with_attention and number == len(self.blocks) - 1
            tokens, attention = block(tokens, mask, with_attention=last)
        fused = functional.gelu(self.head_hidden(masked_mean(self.norm(tokens), mask)))
        embeddings = {name: each.pooled for name, each in encoded.items()}
        return FusionOutput(self.head(fused), embeddings | {"fused": fused}, self.heads(encoded), attention)

    def forward(self, batch: Mapping[str, ModalityBatch], *, with_attention: bool = False) -> FusionOutput:
        """Classify a batch; see `FusionModel`."""
        return self.fuse(self.encode(batch), with_attention=with_attention)


def _encoder(name: str, config: JointTransformerConfig) -> tuple[nn.Module, int]:
    """An untrained encoder and the width of its tokens. Raises ValueError where its section does not describe one."""
    section, size = getattr(config, name), config.fusion_size
    try:
        if name in ("audio", "video"):
            return FrameEncoder(section["features"], size, section["max_frames"], config.positions), size
        if name == "tabular":
            return ColumnEncoder(section["numbers"], section["categories"], size), size
        own = AutoConfig.for_model(**section)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name}: {error!r} is missing or of another kind than expected") from error
    return make_encoder(own), width_of(own)


def modalities_of(config: PreTrainedConfig) -> tuple[str, ...]:
    """Those that a configuration has a section of, sorted."""
    return tuple(name for name in MODALITIES if getattr(config, name) is not None)


def _build(config: PreTrainedConfig) -> nn.Module:
    return JointTransformer(cast(JointTransformerConfig, config))


FAMILY = Family(
    name=JointTransformerConfig.model_type,
    config=JointTransformerConfig,
    build=_build,
    encoders={name: f"{name}_encoder." for name in MODALITIES},
    modalities=modalities_of,
)

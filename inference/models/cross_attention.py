"""Cross-attention fusion: image tokens (ViT) query text tokens (BERT) and compare themselves with what they find."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from inference.models.base import Encoded, FusionOutput
from inference.models.cross_block import CrossBlock
from inference.models.pair import PairConfig, PairFusion, masked_mean, pair_family


class CrossAttentionConfig(PairConfig):
    """`fusion_heads` must divide `fusion_size`."""

    model_type = "fusion_cross_attention"

    fusion_heads: int = 4


class CrossAttentionFusion(PairFusion):
    """Two encoders, joined by one cross-attention block; a missing modality is one learned token."""

    config_class = CrossAttentionConfig

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__(config)
        self.cross = CrossBlock(config.fusion_size, config.fusion_heads)
        self.add_heads(2 * config.fusion_size)
        self.cross.align()

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:
        """Join two encoded modalities; attention (B, image tokens, text tokens)."""
        image, text = encoded["image"], encoded["text"]
        tokens, attention = self.cross(image.tokens, text.tokens, text.mask)
        joined = torch.cat((masked_mean(tokens, image.mask), masked_mean(text.tokens, text.mask)), dim=-1)
        return self.answer(joined, encoded, attention if with_attention else None)


FAMILY = pair_family(CrossAttentionConfig, CrossAttentionFusion)

"""Bidirectional cross-attention: image tokens query the text, text tokens query the image, both means are joined."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from inference.models.base import Encoded, FusionOutput
from inference.models.cross_block import CrossBlock
from inference.models.pair import PairConfig, PairFusion, masked_mean, pair_family


class BidirectionalConfig(PairConfig):
    """`fusion_heads` must divide `fusion_size`."""

    model_type = "fusion_bidirectional"

    fusion_heads: int = 4


class BidirectionalFusion(PairFusion):
    """Two cross-attention blocks side by side; a missing modality is one learned token."""

    config_class = BidirectionalConfig

    def __init__(self, config: BidirectionalConfig) -> None:
        super().__init__(config)
        self.image_cross = CrossBlock(config.fusion_size, config.fusion_heads)
        self.text_cross = CrossBlock(config.fusion_size, config.fusion_heads)
        self.add_heads(2 * config.fusion_size)
        self.image_cross.align()
        self.text_cross.align()

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:
        """Join two encoded modalities; attention (B, image tokens, text tokens) is that of the image's queries."""
        image, text = encoded["image"], encoded["text"]
        pictures, attention = self.image_cross(image.tokens, text.tokens, text.mask)
        words, _ = self.text_cross(text.tokens, image.tokens, image.mask)
        joined = torch.cat((masked_mean(pictures, image.mask), masked_mean(words, text.mask)), dim=-1)
        return self.answer(joined, encoded, attention if with_attention else None)


FAMILY = pair_family(BidirectionalConfig, BidirectionalFusion)

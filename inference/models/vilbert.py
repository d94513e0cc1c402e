"""Two streams that attend to each other, then to themselves, by layers (ViLBERT; Lu et al. 2019, arXiv:1908.02265)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from inference.models.base import Encoded, FusionOutput
from inference.models.cross_block import CrossBlock
from inference.models.pair import PairConfig, PairFusion, masked_mean, pair_family


class VilbertConfig(PairConfig):
    """`fusion_heads` must divide `fusion_size`; `fusion_layers` is at least 1."""

    model_type = "fusion_vilbert"

    fusion_heads: int = 4
    fusion_layers: int = 2


class CoAttention(nn.Module):
    """Each stream queries the other as it was before, then itself."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.image_cross, self.text_cross, self.image_self, self.text_self = (CrossBlock(size, heads) for _ in range(4))

    def forward(self, image: Tensor, text: Tensor, masks: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Update both (B, T, d), whose `masks` are (B, T); attention (B, image tokens, text tokens)."""
        pictures, attention = self.image_cross(image, text, masks[1])
        words, _ = self.text_cross(text, image, masks[0])
        return self.image_self(pictures, pictures, masks[0])[0], self.text_self(words, words, masks[1])[0], attention


class VilbertFusion(PairFusion):
    """The streams' means and their product are classified; a missing modality is one learned token."""

    config_class = VilbertConfig

    def __init__(self, config: VilbertConfig) -> None:
        """Raises ValueError where there would be no layer."""
        if config.fusion_layers < 1:
            raise ValueError(f"fusion_layers is {config.fusion_layers}; expected at least 1")
        super().__init__(config)
        self.layers = nn.ModuleList(
            CoAttention(config.fusion_size, config.fusion_heads) for _ in range(config.fusion_layers)
        )
        self.add_heads(3 * config.fusion_size)
        for block in self.layers.modules():
            if isinstance(block, CrossBlock):
                block.align()

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:
        """Join two encoded modalities; attention (B, image tokens, text tokens) is the first layer's."""
        image, text = encoded["image"].tokens, encoded["text"].tokens
        masks = (encoded["image"].mask, encoded["text"].mask)
        attention: Tensor | None = None
        for layer in self.layers:
            image, text, seen = layer(image, text, masks)
            attention = seen if attention is None else attention
        pictures, words = masked_mean(image, masks[0]), masked_mean(text, masks[1])
        joined = torch.cat((pictures, words, pictures * words), dim=-1)
        return self.answer(joined, encoded, attention if with_attention else None)


FAMILY = pair_family(VilbertConfig, VilbertFusion)

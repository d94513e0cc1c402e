"""Early fusion: features of the picture and the text's first token, concatenated, then one classifier.

The image encoder may be a vision transformer or a convolutional network (`resnet` with basic layers is ResNet-18).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from inference.models.base import Encoded, FusionOutput
from inference.models.pair import PairConfig, PairFusion, masked_mean, pair_family


class EarlyConfig(PairConfig):
    """Nothing of its own."""

    model_type = "fusion_early"


class EarlyFusion(PairFusion):
    """Mean picture feature and [CLS] of the text; in place of a missing one stands a learned vector."""

    config_class = EarlyConfig

    def __init__(self, config: EarlyConfig) -> None:
        super().__init__(config)
        self.add_heads(2 * config.fusion_size)

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:  # noqa: ARG002
        """Join two encoded modalities; there is no attention."""
        image, text = encoded["image"], encoded["text"]
        return self.answer(torch.cat((masked_mean(image.tokens, image.mask), text.tokens[:, 0]), dim=-1), encoded)


FAMILY = pair_family(EarlyConfig, EarlyFusion)

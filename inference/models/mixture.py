"""A mixture of experts: one per modality and one for the pair, weighed by a gate for each request.

Source of gated experts: Jacobs et al. 1991, Neural Computation 3(1).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.models.base import Encoded, FusionOutput
from inference.models.cross_block import CrossBlock
from inference.models.pair import ENCODERS, PairConfig, PairFusion, masked_mean, masked_softmax, pair_family

EXPERTS = (*ENCODERS, "joint")


class MixtureConfig(PairConfig):
    """`fusion_heads` must divide `fusion_size`."""

    model_type = "fusion_mixture"

    fusion_heads: int = 4


class MixtureFusion(PairFusion):
    """An expert whose modality is missing has no weight; the joint one needs both. The rest sum to one."""

    config_class = MixtureConfig
    learned_missing = False

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__(config)
        size = config.fusion_size
        self.cross = CrossBlock(size, config.fusion_heads)
        self.joint_hidden = nn.Linear(2 * size, size)
        self.joint_head = nn.Linear(size, self.classes)
        self.gates = nn.ModuleDict({name: nn.Linear(size, 1) for name in EXPERTS})
        self.add_unimodal_heads(dict.fromkeys(ENCODERS, size))
        self.cross.align()

    def heads(self, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Logits (B, C) of the experts of single modalities."""
        return {
            "image": self.image_head(_features(encoded["image"])),
            "text": self.text_head(_features(encoded["text"])),
        }

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:
        """Weigh the experts' logits; attention (B, 1, 3) are the gate's weights of image, text and joint expert."""
        image, text = encoded["image"], encoded["text"]
        tokens, _ = self.cross(image.tokens, text.tokens, text.mask)
        pair = torch.cat((masked_mean(tokens, image.mask), masked_mean(text.tokens, text.mask)), dim=-1)
        features = [_features(image), _features(text), functional.gelu(self.joint_hidden(pair))]
        here = [image.mask.any(1), text.mask.any(1)]
        present = torch.stack([*here, here[0] & here[1]], dim=1)
        scores = torch.cat([self.gates[name](each) for name, each in zip(EXPERTS, features, strict=True)], dim=1)
        weights = masked_softmax(scores, present)
        heads = self.heads(encoded)
        logits = torch.stack([heads["image"], heads["text"], self.joint_head(features[2])], dim=1)
        embeddings = {name: each.pooled for name, each in encoded.items()}
        embeddings["fused"] = torch.einsum("be,bed->bd", weights, torch.stack(features, dim=1))
        answers = torch.einsum("be,bec->bc", weights, logits)
        return FusionOutput(answers, embeddings, heads, weights[:, None] if with_attention else None)


def _features(encoded: Encoded) -> Tensor:
    return functional.gelu(masked_mean(encoded.tokens, encoded.mask))


FAMILY = pair_family(MixtureConfig, MixtureFusion)

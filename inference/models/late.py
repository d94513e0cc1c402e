"""Late fusion: a classifier per modality, and a weighted mean of the logits of those that are present."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.models.base import Encoded, FusionOutput
from inference.models.pair import ENCODERS, PairConfig, PairFusion, masked_mean, masked_softmax, pair_family


class LateConfig(PairConfig):
    """`weights` is `learned`, one weight per modality, or `equal`."""

    model_type = "fusion_late"

    weights: str = "learned"


class LateFusion(PairFusion):
    """The weights of the modalities that a request has are scaled to sum to one."""

    config_class = LateConfig
    learned_missing = False
    scores: Tensor

    def __init__(self, config: LateConfig) -> None:
        """Raises ValueError where `weights` is unknown."""
        if config.weights not in ("learned", "equal"):
            raise ValueError(f"weights is {config.weights!r}; allowed: learned, equal")
        super().__init__(config)
        if config.weights == "learned":
            self.scores = nn.Parameter(torch.zeros(len(ENCODERS)))
        else:
            self.register_buffer("scores", torch.zeros(len(ENCODERS)))
        self.add_unimodal_heads(dict.fromkeys(ENCODERS, config.fusion_size))

    def heads(self, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Logits (B, C) of each modality by itself, which here are what is fused."""
        features = self._features(encoded)
        return {"image": self.image_head(features["image"]), "text": self.text_head(features["text"])}

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:
        """Weigh the heads' logits; attention (B, 1, 2) are the weights of image and text."""
        present = torch.stack([encoded[name].mask.any(1) for name in ENCODERS], dim=1)
        weights = masked_softmax(self.scores.expand(len(present), -1), present)
        features, heads = self._features(encoded), self.heads(encoded)
        logits = torch.einsum("bm,bmc->bc", weights, torch.stack([heads[name] for name in ENCODERS], dim=1))
        embeddings = {name: each.pooled for name, each in encoded.items()}
        embeddings["fused"] = torch.cat([features[name] * weights[:, [i]] for i, name in enumerate(ENCODERS)], dim=1)
        return FusionOutput(logits, embeddings, heads, weights[:, None] if with_attention else None)

    def _features(self, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
        return {name: functional.gelu(masked_mean(each.tokens, each.mask)) for name, each in encoded.items()}


FAMILY = pair_family(LateConfig, LateFusion)

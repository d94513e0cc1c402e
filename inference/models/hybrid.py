"""The latent of `mvae` with a classifier that shapes it: answers and reconstruction are learnt together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from inference.models.base import Encoded, FusionOutput
from inference.models.mvae import MvaeConfig, MvaeFusion
from inference.models.pair import pair_family


class HybridConfig(MvaeConfig):
    """`generative_weight` is that of the evidence bound beside the answers' loss."""

    model_type = "fusion_hybrid"

    generative_weight: float = 0.1


class HybridFusion(MvaeFusion):
    """In training the classifier sees a draw from the posterior, else its mean."""

    config_class = HybridConfig

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config)
        self.generative_weight = config.generative_weight

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:  # noqa: ARG002
        """Classify the latent; the posterior's mean is the fused embedding; there is no attention."""
        mean, variance = self.posterior(encoded)
        latent = mean + variance.sqrt() * torch.randn_like(mean) if self.training else mean
        output = self.answer(latent, encoded)
        bound = self.generative_weight * self.bound(encoded) if self.training else None
        return replace(output, embeddings={**output.embeddings, "fused": mean}, auxiliary=bound)


FAMILY = pair_family(HybridConfig, HybridFusion)

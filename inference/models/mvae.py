"""Multimodal variational autoencoder over features: one latent, a product of experts (Wu & Goodman 2018; 1802.05335).

Each modality present gives a Gaussian expert over the latent; their product with a standard normal prior is the
posterior, of precision 1 + Σ 1/σ² and mean Σ μ/σ² over that. Decoders tell every modality's features of the latent,
also those of a modality that a request lacks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.models.base import Encoded, FusionOutput
from inference.models.pair import ENCODERS, PairConfig, PairFusion, masked_mean, pair_family

LOG_VARIANCE = 8.0  # experts' largest; e⁸ times surer or less sure than the prior is as good as certain or silent


class MvaeConfig(PairConfig):
    """`latent_size` numbers; `kl_weight` is that of the divergence from the prior, for each of them."""

    model_type = "fusion_mvae"

    latent_size: int = 64
    kl_weight: float = 0.1


class MvaeFusion(PairFusion):
    """The latent learns to tell the features; the classifier only reads it, and never shapes it."""

    config_class = MvaeConfig
    learned_missing = False

    def __init__(self, config: MvaeConfig) -> None:
        super().__init__(config)
        size, latent = config.fusion_size, config.latent_size
        self.kl_weight = config.kl_weight
        self.experts = nn.ModuleDict({name: nn.Linear(size, 2 * latent) for name in ENCODERS})
        self.decoders = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(latent, size), nn.GELU(), nn.Linear(size, self.widths[name]))
                for name in ENCODERS
            }
        )
        self.add_heads(latent)

    def heads(self, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Logits (B, C) of each modality by itself; they teach the encoders, which the latent alone would not."""
        return {"image": self.image_head(encoded["image"].pooled), "text": self.text_head(encoded["text"].pooled)}

    def posterior(
        self, encoded: Mapping[str, Encoded], seen: Collection[str] = tuple(ENCODERS)
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, latent) given the modalities of `seen` that are present; the prior's without any."""
        precision = mean = encoded["image"].pooled.new_zeros(())
        for name in seen:
            each = encoded[name]
            expert, log_variance = self.experts[name](masked_mean(each.tokens, each.mask)).chunk(2, dim=-1)
            sure = (-LOG_VARIANCE * torch.tanh(log_variance / LOG_VARIANCE)).exp() * each.mask.any(1, keepdim=True)
            precision, mean = precision + sure, mean + sure * expert
        return mean / (1.0 + precision), 1.0 / (1.0 + precision)

    def reconstruct(self, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Every modality's pooled features (B, encoder size), as the latent has them; rows of mean 0 and variance 1."""
        mean, _ = self.posterior(encoded)
        return {name: decoder(mean) for name, decoder in self.decoders.items()}

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:  # noqa: ARG002
        """Classify the posterior's mean, which is the fused embedding; there is no attention."""
        mean, _ = self.posterior(encoded)
        output = self.answer(mean.detach(), encoded)
        embeddings = {**output.embeddings, "fused": mean}
        return replace(output, embeddings=embeddings, auxiliary=self.bound(encoded) if self.training else None)

    def bound(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """The negative evidence bound (B,), of all modalities together and of each alone; drawn at random.

        From each alone all that are present are told, so that the latent learns to do without one.
        """
        names = tuple(ENCODERS)
        return torch.stack([self._bound(encoded, seen) for seen in (names, *((name,) for name in names))]).mean(0)

    def _bound(self, encoded: Mapping[str, Encoded], seen: Collection[str]) -> Tensor:
        mean, variance = self.posterior(encoded, seen)
        latent = mean + variance.sqrt() * torch.randn_like(mean)
        loss = self.kl_weight * 0.5 * (variance + mean**2 - 1.0 - variance.log()).mean(1)
        for name, decoder in self.decoders.items():
            each = encoded[name]
            # features without their own scale, and fixed: else they would shrink to be told more easily
            target = functional.layer_norm(each.pooled.detach(), each.pooled.shape[1:])
            loss = loss + 0.5 * ((decoder(latent) - target) ** 2).mean(1) * each.mask.any(1)
        return loss


FAMILY = pair_family(MvaeConfig, MvaeFusion)

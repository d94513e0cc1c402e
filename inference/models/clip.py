"""Two towers with a shared space (CLIP; Radford et al. 2021, arXiv:2103.00020) and a small classifier on top.

Training adds the contrastive term by itself, so that a picture and the text that belongs to it come to lie close
together; classes can then be told by prompts alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from inference.models.base import Encoded, FusionOutput, ModalityBatch
from inference.models.pair import ENCODERS, PairConfig, PairFusion, masked_mean, pair_family


class ClipConfig(PairConfig):
    """`contrastive_weight` is that of the contrastive term where the training's settings give none."""

    model_type = "fusion_clip"

    contrastive_weight: float = 0.5


class ClipFusion(PairFusion):
    """Embeddings of both modalities are unit vectors of one space; a missing one is a learned unit vector."""

    config_class = ClipConfig

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config)
        self.contrastive_weight = config.contrastive_weight
        self.widths = dict.fromkeys(ENCODERS, config.fusion_size)
        self.add_heads(3 * config.fusion_size)

    def mask_missing(self, modality: str, encoded: Encoded, present: Tensor) -> Encoded:
        """One token, the modality's unit vector in the shared space."""
        shared = functional.normalize(masked_mean(encoded.tokens, encoded.mask), dim=-1)
        instead = functional.normalize(self.missing[modality], dim=-1)
        shared = torch.where(present[:, None], shared, instead)
        pooled = torch.where(present[:, None], shared, torch.zeros_like(shared))
        return Encoded(shared[:, None], torch.ones_like(present)[:, None], pooled)

    def fuse(self, encoded: Mapping[str, Encoded], *, with_attention: bool = False) -> FusionOutput:  # noqa: ARG002
        """Classify both vectors and their product; there is no attention."""
        image, text = encoded["image"].tokens[:, 0], encoded["text"].tokens[:, 0]
        # numbers of a unit vector are small: products at the scale of the rest
        product = image * text * image.shape[1] ** 0.5
        return self.answer(torch.cat((image, text, product), dim=-1), encoded)

    def zero_shot(self, image: ModalityBatch, prompts: ModalityBatch) -> Tensor:
        """Cosine similarity (B, P) of B pictures and P prompts, one or more of which describe each class.

        Rows that lack their modality are zeros.
        """
        return self.encode_image(image).pooled @ self.encode_text(prompts).pooled.T


FAMILY = pair_family(ClipConfig, ClipFusion)

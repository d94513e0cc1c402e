"""Helper losses for learning from scratch: name what each patch shows and what each word refers to.

Cross-entropy on the three classes alone stays at chance for thousands of steps; these losses give picture patches
and caption words one shared space of colours, shapes and sides. They need to know what was drawn where, so
production retraining has no use for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from demo.captions import SIDES
from demo.scenes import COLOURS, SHAPES, SIDE, Claim, Scene
from inference.models.base import Encoded
from inference.models.cross_attention import CrossAttentionFusion

PATCH = 16
IGNORE = -100
ATTRIBUTES: dict[str, tuple[str, ...]] = {"colour": COLOURS, "shape": SHAPES, "side": SIDES}
WEIGHTS = {"colour": 1.0, "shape": 1.0, "side": 0.5}
FOREGROUND, BACKGROUND = 0.15, 0.05
"""Share of a patch that an object must cover to own it; below the second the patch is background, between ignored."""


def sides_of(claim: Claim) -> tuple[int, int]:
    """Indices into `SIDES` of the claim's first and second item."""
    return (0, 1) if claim.axis == "horizontal" else (2, 3)


def patch_targets(scene: Scene) -> NDArray[np.int64]:
    """Targets (3, patches) of a scene: colour (last index = background), shape and side, `IGNORE` where none."""
    grid = SIDE // PATCH
    blocks = scene.objects.reshape(grid, PATCH, grid, PATCH).swapaxes(1, 2).reshape(grid * grid, -1)
    targets = np.full((3, grid * grid), IGNORE, dtype=np.int64)
    for patch, pixels in enumerate(blocks):
        share = np.bincount(pixels, minlength=len(scene.items) + 1)[1:] / pixels.size
        owner = int(share.argmax())
        if share[owner] >= FOREGROUND:
            item = scene.items[owner]
            targets[0, patch] = COLOURS.index(item.colour)
            targets[1, patch] = SHAPES.index(item.shape)
            if owner < 2:
                targets[2, patch] = sides_of(scene.claim)[owner]
        elif share.sum() <= BACKGROUND:
            targets[0, patch] = len(COLOURS)
    return targets


class WordRoles:
    """Finds, for each colour and shape word of a caption, the item it speaks of."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.ids = {
            name: torch.tensor([tokenizer.token_to_id(word) for word in words]) for name, words in ATTRIBUTES.items()
        }
        self._tokenizer = tokenizer

    def targets(self, input_ids: Tensor, claims: Sequence[Claim]) -> Tensor:
        """Targets (3, B, T) for token ids (B, T) and the B claims they say; `IGNORE` for every other word."""
        out = torch.full((3, *input_ids.shape), IGNORE)
        for row, claim in enumerate(claims):
            for item, side in zip((claim.first, claim.second), sides_of(claim), strict=True):
                role = torch.tensor([COLOURS.index(item.colour), SHAPES.index(item.shape), side])
                named = [self._tokenizer.token_to_id(word) for word in (item.colour, item.shape)]
                where = (input_ids[row] == named[0]) | (input_ids[row] == named[1])
                out[:, row, where] = role[:, None]
        return out


def attribute_losses(
    model: CrossAttentionFusion, roles: WordRoles, background: Tensor, tokens: Tensor, targets: Tensor
) -> Tensor:
    """Weighted cross-entropy of colour, shape and side read from projected `tokens` (N, T, d), targets (3, N, T).

    The classifier's weights are the words' own projected embeddings, so a patch and the word that names it meet;
    `background` (d,) is one more colour.
    """
    total = tokens.new_zeros(())
    embeddings = model.text_encoder.embeddings
    for target, (name, ids) in zip(targets, roles.ids.items(), strict=True):
        words = embeddings.LayerNorm(embeddings.word_embeddings(ids.to(tokens.device)))
        weights = model.text_projection(words)
        if name == "colour":
            weights = torch.cat((weights, background[None]))
        logits = tokens @ weights.T * tokens.shape[-1] ** -0.5
        total = total + WEIGHTS[name] * functional.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=IGNORE
        )
    return total


def contrastive_loss(image: Encoded, text: Encoded, positives: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE: each of B pictures against all captions; `positives` (B,) is the row of its consistent caption."""
    pictures = functional.normalize(image.tokens.mean(1), dim=-1)
    weight = text.mask.to(text.tokens.dtype)[..., None]
    captions = functional.normalize((text.tokens * weight).sum(1) / weight.sum(1), dim=-1)
    return functional.cross_entropy(pictures @ captions.T / temperature, positives)

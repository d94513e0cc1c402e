"""A fusion model small enough to build in every test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch

from demo.tokenizer import build_tokenizer
from inference.models.base import Family, ModalityBatch
from inference.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_manifest
from inference.models.cross_attention import CrossAttentionConfig, CrossAttentionFusion
from inference.models.pair import PairFusion
from inference.models.preprocess import ImageSettings, Preprocessor

LABELS = ("yes", "no", "maybe")


def small_options() -> dict[str, Any]:
    """What the configuration of every image-text family takes."""
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    return {
        "vision_config": {"model_type": "vit", "image_size": 32, "patch_size": 16, **size},
        "text_config": {"model_type": "bert", "vocab_size": 400, "max_position_embeddings": 32, **size},
        "fusion_size": 32,
        "image_stem": "convolutional",
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: i for i, label in enumerate(LABELS)},
    }


def small_model(seed: int = 0) -> CrossAttentionFusion:
    torch.manual_seed(seed)
    model = CrossAttentionFusion(CrossAttentionConfig(**small_options(), fusion_heads=2))
    model.train(False)
    return model


def small_of(family: Family, seed: int = 0, **options: Any) -> PairFusion:
    """A model of an image-text family, with its defaults beside what `small_options` and `options` say."""
    torch.manual_seed(seed)
    model = cast(PairFusion, family.build(family.config(**small_options() | options)))
    model.train(False)
    return model


def small_preprocessor() -> Preprocessor:
    tokenizer = build_tokenizer(["a red circle is left of a blue square"])
    return Preprocessor(ImageSettings(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), tokenizer, 32)


def small_checkpoint(folder: Path) -> Checkpoint:
    """The same, saved to `folder`, sealed and loaded."""
    save_checkpoint(folder, small_model(), small_preprocessor(), LABELS, 1.25)
    write_manifest(folder)
    return load_checkpoint(folder, torch.device("cpu"))


def random_batch(rows: int = 4, tokens: int = 10, seed: int = 0) -> dict[str, ModalityBatch]:
    """Every row has both modalities; row i has `tokens - i` real tokens."""
    generator = torch.Generator().manual_seed(seed)
    length = tokens - torch.arange(rows)
    mask = (torch.arange(tokens)[None, :] < length[:, None]).long()
    ids = torch.randint(5, 120, (rows, tokens), generator=generator) * mask
    here = torch.ones(rows, dtype=torch.bool)
    pixels = torch.randn(rows, 3, 32, 32, generator=generator)
    return {
        "image": ModalityBatch({"pixel_values": pixels}, here),
        "text": ModalityBatch({"input_ids": ids, "attention_mask": mask}, here),
    }

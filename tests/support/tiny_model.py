"""A fusion model small enough to build in every test."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from demo.tokenizer import build_tokenizer
from inference.models.base import Family, ModalityBatch
from inference.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_manifest
from inference.models.columns import SequenceSettings, TabularSettings
from inference.models.cross_attention import CrossAttentionConfig, CrossAttentionFusion
from inference.models.pair import PairFusion
from inference.models.preprocess import ImageSettings, Preprocessor

LABELS = ("yes", "no", "maybe")
PAIR = frozenset({"image", "text"})
FEATURES = {"audio": 5, "video": 7}
SECTIONS: dict[str, dict[str, Any]] = {
    **{name: {"features": size, "max_frames": 32} for name, size in FEATURES.items()},
    "tabular": {"numbers": 2, "categories": [3]},
}
"""Of a configuration of any modalities, beside `image` and `text`."""


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


def small_of(family: Family, seed: int = 0, names: Collection[str] = PAIR, **options: Any) -> PairFusion:
    """A model of a family, with its defaults beside what `small_options` and `options` say.

    `names` are the modalities of a family that may have any.
    """
    torch.manual_seed(seed)
    given = small_options()
    if family.modalities is not None:
        sections = {"image": given["vision_config"], "text": given["text_config"], **SECTIONS}
        given = {key: given[key] for key in ("fusion_size", "id2label", "label2id")}
        given |= {name: sections[name] for name in names}
    model = cast(PairFusion, family.build(family.config(**given | options)))
    model.train(False)
    return model


def small_preprocessor(names: Collection[str] = PAIR) -> Preprocessor:
    tokenizer = build_tokenizer(["a red circle is left of a blue square"]) if "text" in names else None
    return Preprocessor(
        ImageSettings(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) if "image" in names else None,
        tokenizer,
        32,
        sequences={
            name: SequenceSettings(np.zeros(size, np.float32), np.ones(size, np.float32), 32)
            for name, size in FEATURES.items()
            if name in names
        },
        tabular=TabularSettings({"size": (0.0, 1.0), "weight": (3.0, 2.0)}, {"kind": ("a", "b", "c")})
        if "tabular" in names
        else None,
    )


def some_value(name: str, rng: np.random.Generator) -> Any:
    """A decoded value that says nothing."""
    if name in FEATURES:
        return rng.normal(0.0, 1.0, (int(rng.integers(1, 12)), FEATURES[name])).astype(np.float32)
    return {
        "image": rng.integers(0, 256, (32, 32, 3), np.uint8),
        "text": "a red circle " * int(rng.integers(1, 5)),
        "tabular": {"size": float(rng.normal()), "kind": "abcd"[int(rng.integers(4))]},
    }[name]


def small_checkpoint(folder: Path) -> Checkpoint:
    """The same, saved to `folder`, sealed and loaded."""
    save_checkpoint(folder, small_model(), small_preprocessor(), LABELS, 1.25)
    write_manifest(folder)
    return load_checkpoint(folder, torch.device("cpu"))


def random_batch(
    rows: int = 4, tokens: int = 10, seed: int = 0, names: Collection[str] = PAIR
) -> dict[str, ModalityBatch]:
    """Every row has all of `names`; row i has `tokens - i` real tokens, or frames."""
    generator = torch.Generator().manual_seed(seed)
    length = tokens - torch.arange(rows)
    mask = (torch.arange(tokens)[None, :] < length[:, None]).long()
    ids = torch.randint(5, 120, (rows, tokens), generator=generator) * mask
    here = torch.ones(rows, dtype=torch.bool)
    pixels = torch.randn(rows, 3, 32, 32, generator=generator)
    tensors = {
        "image": {"pixel_values": pixels},
        "text": {"input_ids": ids, "attention_mask": mask},
        "tabular": {
            "numbers": torch.randn(rows, 2, generator=generator),
            "known": (torch.arange(rows) % 2 == 0).float()[:, None].repeat(1, 2),
            "codes": torch.randint(0, 4, (rows, 1), generator=generator),
        },
    }
    for name, size in FEATURES.items():
        frames = torch.randn(rows, tokens, size, generator=generator) * mask[:, :, None]
        tensors[name] = {"features": frames, "frame_mask": mask}
    return {name: ModalityBatch(tensors[name], here) for name in sorted(names)}

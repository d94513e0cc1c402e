"""Checkpoints to measure with: no trained weights are needed for a speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from demo.tokenizer import build_tokenizer
from inference.models.card import write_manifest
from inference.models.checkpoint import save_checkpoint
from inference.models.cross_attention import CrossAttentionConfig, CrossAttentionFusion
from inference.models.pass_through import PassThrough, PassThroughConfig
from inference.models.preprocess import ImageSettings, Preprocessor
from tests.bench.rig import CAPTIONS

LABELS = ("yes", "no", "maybe")
NAMES: dict[str, Any] = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}


def pass_through(folder: Path) -> Path:
    """No model: what remains is the data plane."""
    model = PassThrough(PassThroughConfig(priors=[0.5, 0.25, 0.25], **NAMES))
    save_checkpoint(folder, model, None, LABELS, 1.0)
    write_manifest(folder)
    return folder


def vit_bert(folder: Path) -> Path:
    """ViT-B/16 and BERT-base with random weights, joined by cross-attention."""
    torch.manual_seed(0)
    config = CrossAttentionConfig(
        vision_config={"model_type": "vit"},  # transformers' defaults are ViT-B/16 and BERT-base
        text_config={"model_type": "bert"},
        fusion_size=768,
        fusion_heads=8,
        **NAMES,
    )
    preprocessor = Preprocessor(
        ImageSettings(224, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), build_tokenizer(list(CAPTIONS)), 128
    )
    save_checkpoint(folder, CrossAttentionFusion(config), preprocessor, LABELS, 1.0)
    write_manifest(folder)
    return folder

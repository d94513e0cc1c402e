"""Drawn scenes as an annotations file, and configurations small enough to train in seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from demo.captions import LABELS
from demo.examples import example_stream

SMALL: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 1}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
"""Two processes draw other dropout than one; all else is the same."""


def write_annotations(folder: Path, count: int, *, splits: tuple[str, ...] = (), seed: int = 3) -> Path:
    """`count` scenes with a caption each; `splits` go round, by default none is named.

    The caption begins with a word that tells its label: something that can be learnt within few steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for example in islice(example_stream(seed), count):
        name = f"{example.number}.png"
        Image.fromarray(example.image).save(folder / name)
        label = LABELS[example.label]
        row = {"id": f"s{example.number}", "image": name, "text": f"{label} {example.caption}", "label": label}
        split = {"split": splits[example.number % len(splits)]} if splits else {}
        rows.append(json.dumps(row | split | {"metadata": {"source": "drawn", "language": "en"}}))
    path = folder / "annotations.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def write_config(folder: Path, sections: Mapping[str, Mapping[str, Any]] | None = None, **training: Any) -> Path:
    """A configuration beside `annotations.jsonl`, with a model of a few thousand weights; output is `trained`.

    `sections` are added, or come instead.
    """
    default: Mapping[str, Mapping[str, Any]] = {
        "data": {"annotations": "annotations.jsonl", "validation_share": 0.3, "test_share": 0.3},
        "model.options": {"fusion_size": 32, "fusion_heads": 2, "image_stem": "convolutional"},
        "model.image.config": {"model_type": "vit", "image_size": 64, "patch_size": 16, **SMALL},
        "model.text": {"max_tokens": 24, "vocabulary": 400},
        "model.text.config": {"model_type": "bert", **SMALL, **NO_DROPOUT},
        "training": {
            "steps": 24,
            "batch_size": 32,
            "learning_rate": 5e-3,
            "warmup": 2,
            "evaluate_every": 8,
            "save_every": 4,
            "device": "cpu",
            **training,
        },
        "tracking": {"mlflow": "off"},
    }
    lines = ['output = "trained"']
    for name, content in {**default, **(sections or {})}.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in content.items())]
    path = folder / "train.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path

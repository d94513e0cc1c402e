"""Rows of video features, audio features and a table whose label none of the three tells by itself."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LABELS = ("both", "first", "neither", "second")
FEATURES = {"audio": 6, "video": 8}
OPTIONS = {"fusion_size": 32, "fusion_heads": 2, "fusion_layers": 2, "fusion_dropout": 0.0}


def values(rng: np.random.Generator) -> tuple[dict[str, Any], str]:
    """One row's values by modality, and its label.

    Video rises or falls, audio is high or low, and the table says yes or no: three fair coins. The label tells whether
    video and audio agree, and whether audio and table do: one alone says nothing of it, two say half.
    """
    rises, high, says = (int(bit) for bit in rng.integers(0, 2, 3))
    moving, steady = (rng.normal(0.0, 0.3, (int(rng.integers(4, 9)), size)).astype(np.float32) for size in (8, 6))
    moving[:, 0] += np.linspace(-1, 1, len(moving)) * (2 * rises - 1)
    steady[:, 1] += 2 * high - 1
    table = {"reading": float(rng.normal(2 * says - 1, 0.2)), "room": "abc"[int(rng.integers(3))]}
    agree = (rises == high, high == says)
    label = {(True, True): "both", (True, False): "first", (False, True): "second", (False, False): "neither"}[agree]
    return {"video": moving, "audio": steady, "tabular": table}, label


def npy(array: NDArray[Any]) -> bytes:
    """An array as NumPy writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def write_annotations(folder: Path, count: int, seed: int = 3) -> Path:
    """`count` rows with all three modalities, three fifths of them for training."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        row, label = values(rng)
        for name in FEATURES:
            (folder / f"{number}.{name}.npy").write_bytes(npy(row[name].astype((np.float16, np.float32)[number % 2])))
            row[name] = f"{number}.{name}.npy"
        split = ("train", "train", "train", "validation", "test")[number % 5]
        rows.append(json.dumps({"id": f"r{number}", "label": label, "split": split, **row}))
    path = folder / "annotations.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def write_config(folder: Path, model: Mapping[str, Any] | None = None, **training: Any) -> Path:
    """A configuration of the joint transformer beside `annotations.jsonl`; output is `trained`."""
    sections: dict[str, Mapping[str, Any]] = {
        "data": {"annotations": "annotations.jsonl"},
        "model": {"family": "joint_transformer", **(model or {})},
        "model.options": OPTIONS,
        "training": {"device": "cpu", "batch_size": 64, "drop": 0.05, **training},
    }
    lines = ['output = "trained"']
    for name, content in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in content.items())]
    path = folder / "train.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path

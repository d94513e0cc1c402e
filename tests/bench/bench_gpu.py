"""ViT-B/16 + BERT-base (random weights) at bfloat16 on a GPU: the model process beside the bare forward pass.

`python -m tests.bench gpu`. Both run the same arrays: the bare pass has them on the device already, the process gets
them over its socket with two batches in flight. The two take turns, so that neither has the warmer device.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from demo.tokenizer import build_tokenizer
from inference.collate import collate
from inference.model_io import Dtype, ModelInput, ModelOptions
from inference.model_process import ModelProcess
from inference.models.card import ModelCard
from inference.models.checkpoint import load_checkpoint, save_checkpoint, write_manifest
from inference.models.cross_attention import CrossAttentionConfig, CrossAttentionFusion
from inference.models.preprocess import ImageSettings, Preprocessor
from inference.predictor import Predictor

SIZES = (16, 32, 64, 128, 256)
SIDE, WORDS = 224, 32
BASE: dict[str, Any] = {"vision_config": {"model_type": "vit"}, "text_config": {"model_type": "bert"}}
LABELS = ("consistent", "misleading", "contradictory")


def run() -> dict[str, Any]:
    """Requests per second by batch size."""
    if not torch.cuda.is_available():
        return {"ran": False, "reason": "there is no CUDA device"}
    found = measure("cuda", "bfloat16", SIZES, BASE, seconds=3.0)
    return {"ran": True, "device": torch.cuda.get_device_name(), "torch": torch.__version__, **found}


def measure(device: str, dtype: Dtype, sizes: Sequence[int], shape: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Both ways at each batch size, `seconds` for each of three turns."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        _save(folder, shape)
        checkpoint = load_checkpoint(folder, torch.device(device))
        predictor = Predictor(checkpoint, torch.device(device), dtype=dtype)
        predictor.warm_up()
        process = ModelProcess(folder, ModelOptions(device=device, dtype=dtype))
        process.start()
        for size in sizes:
            batch = _batch(checkpoint.card, size)
            turns = [(_bare(predictor, batch, seconds), _piped(process, batch, seconds)) for _ in range(3)]
            bare, piped = (median(turn[way] for turn in turns) * size for way in (0, 1))
            rows.append(
                {
                    "batch": size,
                    "bytes": sum(array.nbytes for each in batch.arrays.values() for array in each.values()),
                    "bare_per_second": round(bare),
                    "process_per_second": round(piped),
                    "efficiency": round(piped / bare, 3),
                }
            )
        process.close()
    return {"dtype": dtype, "tokens": WORDS + 2, "pixels": SIDE, "by_batch": rows}


def _save(folder: Path, shape: dict[str, Any]) -> None:
    torch.manual_seed(0)
    classes: dict[str, Any] = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: i for i, label in enumerate(LABELS)},
    }
    model = CrossAttentionFusion(CrossAttentionConfig(**shape, **classes))
    model.train(False)
    image = ImageSettings(SIDE, SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    save_checkpoint(folder, model, Preprocessor(image, build_tokenizer(["red"]), 128), LABELS, 1.0)
    write_manifest(folder)


def _batch(card: ModelCard, size: int) -> ModelInput:
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return collate([card.prepare({"image": picture, "text": "red " * WORDS})] * size, card.blanks)


def _bare(predictor: Predictor, batch: ModelInput, seconds: float) -> float:
    """Batches per second of the pass alone."""
    staged = predictor.stage(batch)
    return _rate(lambda: predictor.run(staged), seconds)


def _piped(process: ModelProcess, batch: ModelInput, seconds: float) -> float:
    """Batches per second through the process, two in flight."""

    def turn() -> None:
        process.submit(batch)
        process.result()

    process.submit(batch)
    rate = _rate(turn, seconds)
    process.result()
    return rate


def _rate(once: Callable[[], object], seconds: float) -> float:
    once()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        once()
        done += 1
    return done / (time.perf_counter() - started)

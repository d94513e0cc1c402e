"""How good and how honest a model is on labelled examples, under each pattern of present modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.models.base import FusionModel
from inference.models.preprocess import Preprocessor
from inference.training.data import LabelledExample, collate, label_numbers
from migrations.schema.calibration_error import debiased_ece

PATTERNS: Mapping[str, frozenset[str]] = {
    "fused": frozenset({"image", "text"}),
    "image": frozenset({"image"}),
    "text": frozenset({"text"}),
}
"""Presence patterns by name: the modalities that the model gets to see."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Quality under one presence pattern over `count` examples. `per_class` is the recall of each class."""

    count: int
    accuracy: float
    confidence: float
    ece: float
    per_class: tuple[float, ...]


def predict_logits(
    model: nn.Module,
    preprocessor: Preprocessor,
    examples: Sequence[LabelledExample],
    pattern: str = "fused",
    batch_size: int = 64,
) -> Tensor:
    """Logits (N, C) on the CPU, before temperature, of a model in eval mode that sees `pattern` only.

    Raises:
        KeyError: unknown pattern.
    """
    seen = PATTERNS[pattern]
    device = next(model.parameters()).device
    model.eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(examples), batch_size):
            chunk = [
                replace(
                    e,
                    image=e.image if "image" in seen else None,
                    caption=e.caption if "text" in seen else None,
                )
                for e in examples[start : start + batch_size]
            ]
            rows.append(cast(FusionModel, model)(collate(chunk, preprocessor, device)).logits.cpu())
    return torch.cat(rows)


def evaluate(
    model: nn.Module,
    preprocessor: Preprocessor,
    examples: Sequence[LabelledExample],
    temperature: float,
    patterns: Sequence[str] = ("fused", "image", "text"),
) -> dict[str, Evaluation]:
    """Accuracy, confidence, debiased ECE and per-class recall for each presence pattern.

    Raises:
        ValueError: no examples.
    """
    if not examples:
        raise ValueError("evaluate: expected at least one example")
    labels = label_numbers(examples)
    results = {}
    for pattern in patterns:
        logits = predict_logits(model, preprocessor, examples, pattern)
        results[pattern] = summarise((logits / temperature).softmax(1).double().numpy(), labels)
    return results


def summarise(probabilities: Floats, labels: NDArray[np.int64]) -> Evaluation:
    """Evaluate probabilities (N, C) against label indices (N,). A class without examples has recall NaN."""
    predicted = probabilities.argmax(1)
    confidence, correct = probabilities.max(1), predicted == labels
    per_class = tuple(
        float(correct[labels == c].mean()) if (labels == c).any() else float("nan")
        for c in range(probabilities.shape[1])
    )
    return Evaluation(
        count=len(labels),
        accuracy=float(correct.mean()),
        confidence=float(confidence.mean()),
        ece=debiased_ece(confidence, correct),
        per_class=per_class,
    )

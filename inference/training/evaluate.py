"""How good and how honest a model is on labelled examples, under each pattern of present modalities."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.models.base import FusionModel
from inference.models.preprocess import Preprocessor
from inference.training.data import LabelledExample, collate, label_numbers
from migrations.schema.calibration_error import debiased_ece

Floats = NDArray[np.float64]


def patterns(modalities: Collection[str]) -> dict[str, frozenset[str]]:
    """Presence patterns by name: the modalities that the model gets to see. All of them, or one alone.

    >>> sorted(patterns(["image", "text"]))
    ['fused', 'image', 'text']
    """
    return {"fused": frozenset(modalities), **{name: frozenset({name}) for name in sorted(modalities)}}


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
    seen = patterns(preprocessor.modalities)[pattern]
    device = next(model.parameters()).device
    model.eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(examples), batch_size):
            chunk = [each.only(seen) for each in examples[start : start + batch_size]]
            rows.append(cast(FusionModel, model)(collate(chunk, preprocessor, device)).logits.cpu())
    return torch.cat(rows)


def evaluate(
    model: nn.Module,
    preprocessor: Preprocessor,
    examples: Sequence[LabelledExample],
    temperature: float,
    seen: Sequence[str] | None = None,
) -> dict[str, Evaluation]:
    """Accuracy, confidence, debiased ECE and per-class recall for each presence pattern of `seen`, by default all.

    Raises:
        ValueError: no examples.
    """
    if not examples:
        raise ValueError("evaluate: expected at least one example")
    labels = label_numbers(examples)
    results = {}
    for pattern in patterns(preprocessor.modalities) if seen is None else seen:
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

"""What a smaller or rounded model costs in accuracy and gains in speed, beside the one that it was made of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from inference.models.card import WEIGHTS
from inference.models.checkpoint import Checkpoint
from inference.training.annotated import AnnotatedExamples
from inference.training.data import collate, label_numbers
from inference.training.evaluate import predict_logits
from inference.training.measures import Share, quality

ALONE, TOGETHER, REPEATS = 1, 32, 15
"""Requests in the batches that are timed, and how often; the median counts."""


def compared(before: Checkpoint, after: Checkpoint, examples: AnnotatedExamples) -> dict[str, Any]:
    """Figures of both on N ≥ 1 rows with the same labels, and on how many rows they answer the same.

    Times are of the forward pass on the models' device, in milliseconds a request; megabytes are those of the weights'
    file.
    """
    labels = label_numbers(examples)
    told: dict[str, dict[str, Any]] = {}
    answers = []
    for name, checkpoint in (("before", before), ("after", after)):
        logits = predict_logits(checkpoint.model, checkpoint.preprocessor, examples)
        probabilities = (logits / checkpoint.temperature).softmax(1).double().numpy()
        answers.append(probabilities.argmax(1))
        found = quality(probabilities, labels, checkpoint.labels)
        told[name] = {
            "version": checkpoint.version,
            "family": checkpoint.family.name,
            "accuracy": found["accuracy"],
            "ece": found["ece"],
            "megabytes": (checkpoint.folder / WEIGHTS).stat().st_size / 1e6,
        }
    for _ in range(2):  # in turns, so that what else the machine does meets both; the better round counts
        for name, checkpoint in (("before", before), ("after", after)):
            for key, size in (("ms_alone", ALONE), ("ms_in_batch", TOGETHER)):
                spent = milliseconds(checkpoint, examples[: min(size, len(examples))])
                told[name][key] = min(spent, told[name].get(key, spent))
    same = int((answers[0] == answers[1]).sum())
    return {**told, "same_answers": Share(same, len(labels)).told()}


def milliseconds(checkpoint: Checkpoint, examples: Sequence[Any]) -> float:
    """The median time of a forward pass over these rows as one batch, for each of them."""
    device = next(checkpoint.model.parameters()).device
    batch = collate(examples, checkpoint.preprocessor, device)
    spent = []
    with torch.inference_mode():
        for _ in range(REPEATS):
            began = time.perf_counter()
            checkpoint.model(batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            spent.append(time.perf_counter() - began)
    return median(spent) * 1000 / len(examples)

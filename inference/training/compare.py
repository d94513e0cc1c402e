"""Champion and candidate on the same labelled examples: all figures that the gate looks at."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.contribution import NONE, partners
from inference.models.checkpoint import Checkpoint
from inference.predictor import FUSED
from inference.training.data import LabelledExample, collate, label_numbers
from inference.training.evaluate import patterns, predict_logits, summarise

# One batch is a pass; enough of them that a median stands still, taken in turns so that a busy machine slows both.
PASSES, PASS_ROWS = 9, 16
SEED = 0

Marks = NDArray[np.bool_]
Floats = NDArray[np.float64]


def compare(champion: Checkpoint, candidate: Checkpoint, examples: Sequence[LabelledExample]) -> dict[str, Any]:
    """Accuracy, ECE, by class and presence pattern, and reliance of both models, and which rows only one got right.

    `examples` (one at least) have every modality. `paired` holds counts of rows: of all, and of each `class` and
    `pattern`. `by_class` and `by_pattern` hold accuracy and n.
    """
    labels = label_numbers(examples)
    seen = {checkpoint.version: _probabilities(checkpoint, examples) for checkpoint in (champion, candidate)}
    right = {
        version: {pattern: rows.argmax(1) == labels for pattern, rows in by_pattern.items()}
        for version, by_pattern in seen.items()
    }
    names = champion.labels
    told = {
        name: _measured(checkpoint, examples, labels, seen[checkpoint.version])
        for name, checkpoint in (("champion", champion), ("candidate", candidate))
    }
    first, second = right[champion.version], right[candidate.version]
    paired = {
        **_only(first[FUSED], second[FUSED]),
        "class": {
            names[c]: _only(first[FUSED][labels == c], second[FUSED][labels == c]) for c in np.unique(labels).tolist()
        },
        "pattern": {pattern: _only(first[pattern], second[pattern]) for pattern in first if pattern in second},
    }
    return {**told, "paired": paired}


def latencies(checkpoints: Sequence[Checkpoint], examples: Sequence[LabelledExample]) -> list[float]:
    """Median milliseconds of a pass over one batch of examples, for each model on its device."""
    batch = list(examples[:PASS_ROWS])
    device = next(checkpoints[0].model.parameters()).device
    inputs = [collate(batch, checkpoint.preprocessor, device) for checkpoint in checkpoints]
    spent: list[list[float]] = [[] for _ in checkpoints]
    with torch.inference_mode():
        for number in range(PASSES + 1):
            for place, checkpoint in enumerate(checkpoints):
                began = time.perf_counter()
                checkpoint.model(inputs[place])
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if number:  # the first warms up
                    spent[place].append((time.perf_counter() - began) * 1000)
    return [median(each) for each in spent]


def reliance(checkpoint: Checkpoint, examples: Sequence[LabelledExample], whole: Floats) -> dict[str, float]:
    """Mean confidence lost in the answer when one modality is that of a row with another answer, by modality.

    `whole` (N, C) are the probabilities with every modality its own. Works with every family, as it needs no steps of
    the model; the partner has another class for the reason that `inference.contribution` gives. Empty where all N
    answers are of one class.
    """
    answers: NDArray[np.intp] = whole.argmax(1)
    partner = partners(answers, answers, np.random.default_rng(SEED))
    chosen = np.flatnonzero(partner != NONE)
    if len(chosen) == 0:
        return {}
    lost = {}
    for name in checkpoint.card.modalities:
        mixed = [examples[i].with_value(name, examples[partner[i]].values.get(name)) for i in chosen.tolist()]
        after = _softmax(checkpoint, mixed, FUSED)
        rows = np.arange(len(chosen))
        lost[name] = float((whole[chosen, answers[chosen]] - after[rows, answers[chosen]]).mean())
    return lost


def _probabilities(checkpoint: Checkpoint, examples: Sequence[LabelledExample]) -> dict[str, Floats]:
    """(N, C) by presence pattern."""
    return {pattern: _softmax(checkpoint, examples, pattern) for pattern in patterns(checkpoint.card.modalities)}


def _softmax(checkpoint: Checkpoint, examples: Sequence[LabelledExample], pattern: str) -> Floats:
    logits = predict_logits(checkpoint.model, checkpoint.preprocessor, examples, pattern)
    found: Floats = (logits / checkpoint.temperature).softmax(1).double().numpy()
    return found


def _measured(
    checkpoint: Checkpoint,
    examples: Sequence[LabelledExample],
    labels: NDArray[np.int64],
    seen: Mapping[str, Floats],
) -> dict[str, Any]:
    found = {pattern: summarise(rows, labels) for pattern, rows in seen.items()}
    counts = np.bincount(labels, minlength=len(checkpoint.labels))
    return {
        "version": checkpoint.version,
        "accuracy": found[FUSED].accuracy,
        "ece": found[FUSED].ece,
        "n": found[FUSED].count,
        "by_pattern": {pattern: {"accuracy": one.accuracy, "n": one.count} for pattern, one in found.items()},
        "by_class": {
            name: {"accuracy": share, "n": int(n)}
            for name, share, n in zip(checkpoint.labels, found[FUSED].per_class, counts, strict=True)
            if n
        },
        "reliance": reliance(checkpoint, examples, seen[FUSED]),
    }


def _only(champion: Marks, candidate: Marks) -> dict[str, int]:
    return {
        "only_champion_right": int((champion & ~candidate).sum()),
        "only_candidate_right": int((candidate & ~champion).sum()),
    }

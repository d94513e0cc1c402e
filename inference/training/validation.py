"""Runs a model over labelled examples the way the worker runs it over requests, and makes its baseline of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.baseline import Baseline, Validation, baseline_through, fit_baseline
from inference.direct import DirectPredictor
from inference.errors import InferenceError
from inference.modalities.base import Modality, modalities
from inference.models.checkpoint import Checkpoint, load_checkpoint, write_manifest
from inference.outcome import Prediction
from inference.predictor import Predictor
from inference.projection import Projector
from inference.training.data import LabelledExample

BATCH = 64
_TOLD_APART = ("image", "text", "video", "audio", "tabular")


class UnusableModelError(InferenceError):
    """The model gave NaN or infinity on a validation example."""

    code = "unusable_model"


def validate(
    checkpoint: Checkpoint,
    examples: Sequence[LabelledExample],
    progress: Callable[[int], None] = lambda _rows: None,
) -> Validation:
    """The model's answers to examples that have every modality; N rows, in the order of the examples.

    Each example is asked for once, a batch at a time; `progress` is told how many a batch held. Raises
    UnusableModelError where an answer is not finite.
    """
    predictions, labels = _predict(checkpoint, examples, progress)
    return _validation(checkpoint, predictions, labels)


def seal_with_baseline(
    folder: Path,
    device: torch.device,
    held_out: Sequence[LabelledExample],
    fit_on: Sequence[LabelledExample],
    family_modules: tuple[str, ...] = (),
) -> Checkpoint:
    """Finish a checkpoint that `save_checkpoint` wrote: make its baseline, seal the folder, load what was sealed.

    Raises as `make_baseline` does, and CheckpointError where the folder cannot be loaded.
    """
    write_manifest(folder)
    unfinished = load_checkpoint(folder, device, family_modules)
    make_baseline(unfinished, held_out, fit_on).save(folder)
    write_manifest(folder)
    return load_checkpoint(folder, device, family_modules)


def make_baseline(
    checkpoint: Checkpoint,
    held_out: Sequence[LabelledExample],
    fit_on: Sequence[LabelledExample],
    seed: int = 0,
) -> Baseline:
    """The baseline of a model: reference rows from examples it was not trained on, maps fitted on `fit_on`.

    Raises BaselineError where there are too few examples, UnusableModelError where an answer is not finite.
    """
    known: Mapping[str, Modality] = modalities()
    maps = validate(checkpoint, fit_on)
    return fit_baseline(
        validate(checkpoint, held_out),
        class_names=checkpoint.labels,
        quality_names={name: known[name].quality_names for name in checkpoint.card.modalities},
        encoder_fingerprints=checkpoint.fingerprints,
        fit_on=maps.embeddings,
        pair=pair_of(checkpoint.card.modalities),
        seed=seed,
    )


def pair_of(names: Sequence[str]) -> tuple[str, str]:
    """The two modalities whose pairing is watched: image and text where they are there."""
    known = [name for name in _TOLD_APART if name in names]
    return (known[0], known[1]) if len(known) > 1 else _TOLD_APART[:2]


def baseline_of_examples(
    checkpoint: Checkpoint,
    projector: Projector,
    examples: Sequence[LabelledExample],
    progress: Callable[[int], None] = lambda _rows: None,
) -> Baseline:
    """A model's baseline on other rows than those its checkpoint brought, through the checkpoint's own maps.

    Raises as `make_baseline` does.
    """
    known: Mapping[str, Modality] = modalities()
    return baseline_through(
        projector,
        validate(checkpoint, examples, progress),
        class_names=checkpoint.labels,
        quality_names={name: known[name].quality_names for name in checkpoint.card.modalities},
        encoder_fingerprints=checkpoint.fingerprints,
    )


def _predict(
    checkpoint: Checkpoint, examples: Sequence[LabelledExample], progress: Callable[[int], None]
) -> tuple[list[Prediction], list[int]]:
    device = next(checkpoint.model.parameters()).device
    predictor = DirectPredictor(checkpoint.card, Predictor(checkpoint, device, contribution_share=1.0).run)
    predictions: list[Prediction] = []
    labels: list[int] = []
    for start in range(0, len(examples), BATCH):
        batch = examples[start : start + BATCH]
        predictions += predictor.predict([each.values for each in batch])
        labels += [each.label for each in batch]
        progress(len(batch))
    if broken := sum(prediction.error is not None for prediction in predictions):
        raise UnusableModelError(f"{broken} of {len(predictions)} validation answers are not finite")
    return predictions, labels


def _validation(checkpoint: Checkpoint, predictions: Sequence[Prediction], labels: Sequence[int]) -> Validation:
    def stacked(field: str) -> dict[str, NDArray[np.float32]]:
        rows = [getattr(prediction, field) for prediction in predictions]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    measured = sorted({name for prediction in predictions for name in prediction.contribution})
    numbers = {name: number for number, name in enumerate(checkpoint.labels)}
    return Validation(
        embeddings=stacked("embeddings"),
        quality=stacked("quality"),
        predicted=np.array([numbers[prediction.label or ""] for prediction in predictions]),
        confidence=np.array([prediction.confidence for prediction in predictions], np.float64),
        agreement=np.array([float(prediction.agreement or 0.0) for prediction in predictions]),
        labels=np.array(labels),
        contribution={
            name: np.array([prediction.contribution.get(name, np.nan) for prediction in predictions])
            for name in measured
        },
    )

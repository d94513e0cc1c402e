"""What a trained model becomes: a sealed checkpoint with its temperature and baseline, and a report on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from inference.models.card import CARD, FUSED, read_json
from inference.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_manifest
from inference.training.annotated import AnnotatedExamples, Row
from inference.training.calibrate import fit_temperature
from inference.training.costs import compared
from inference.training.data import targets
from inference.training.evaluate import predict_logits
from inference.training.fit import FitResult
from inference.training.keep import OutputFolder
from inference.training.page import page
from inference.training.plan import Plan, Sets
from inference.training.report import report
from inference.training.validation import seal_with_baseline
from inference.training.watch import Watch

MAPS_ROWS = 4096
"""Training rows that the baseline's maps are fitted on, at most: more change them little and take their time."""


def finish(
    plan: Plan,
    folder: OutputFolder,
    device: torch.device,
    fitted: FitResult,
    watch: Watch,
    phase: Callable[[str], None],
) -> dict[str, Any]:
    """Make checkpoint and report of the weights that the model has now; returns the report."""
    seconds, built, config = watch.seconds, plan.built, plan.config
    phase("calibrating, making the baseline")
    part, modules = folder.fresh_part(), config.model.family_modules
    validation = plan.sets["validation"]
    logits = predict_logits(built.model, built.preprocessor, validation)
    temperature = fit_temperature(logits, targets(validation, torch.device("cpu")))
    save_checkpoint(part, built.model, built.preprocessor, built.labels, temperature, modules)
    if plan.whole:
        checkpoint = seal(part, device, plan.sets, config.training.seed, modules)
    else:  # a baseline is of every modality
        write_manifest(part)
        checkpoint = load_checkpoint(part, device, modules)
    phase("evaluating")
    told = {"seconds": round(seconds, 1), **_report(plan, checkpoint, fitted, watch)}
    folder.publish()
    folder.finish(told, page(told))
    return told


def seal(folder: Path, device: torch.device, sets: Sets, seed: int, modules: tuple[str, ...] = ()) -> Checkpoint:
    """Finish a checkpoint that `save_checkpoint` wrote with a baseline of the rows that it was not trained on.

    Raises BaselineError, UnusableModelError.
    """
    labels = sets["train"].names
    names = set(read_json(folder / CARD)["fingerprints"]) - {FUSED}
    held_out = _complete([*sets["validation"].rows, *sets["test"].rows], names)
    fit_on = _complete(sets["train"].rows, names)
    if len(fit_on) > MAPS_ROWS:
        fit_on = random.Random(seed).sample(fit_on, MAPS_ROWS)
    return seal_with_baseline(
        folder, device, AnnotatedExamples(held_out, labels), AnnotatedExamples(fit_on, labels), modules
    )


def _complete(rows: Sequence[Row], modalities: Set[str]) -> list[Row]:
    return [row for row in rows if row.modalities >= modalities]


def evaluated_on(sets: Sets) -> str:
    """The split whose rows a model is judged by."""
    return "test" if len(sets["test"]) else "validation"


def _report(plan: Plan, checkpoint: Checkpoint, fitted: FitResult, watch: Watch) -> dict[str, Any]:
    sets, on = plan.sets, evaluated_on(plan.sets)
    told = {
        "version": checkpoint.version,
        "family": checkpoint.family.name,
        "labels": list(checkpoint.labels),
        "temperature": checkpoint.temperature,
        "parameters": sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        "rows": {split: len(examples) for split, examples in sets.items()},
        "pictures": {
            split: len({row.digest for row in examples.rows if row.digest}) for split, examples in sets.items()
        },
        "training": {
            "steps": fitted.steps,
            "ended": fitted.ended,
            "best_step": watch.best.step if watch.best else None,
            "looks": [asdict(look) for look in watch.looks],
        },
        "evaluated_on": on,
        **report(checkpoint, sets[on], plan.config.training.contrastive_label),
        "config": plan.config.model_dump(mode="json"),
    }
    if plan.teacher is not None:
        told["distilled"] = compared(plan.teacher, checkpoint, sets[on])
    return told

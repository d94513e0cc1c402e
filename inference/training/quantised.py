"""From a checkpoint to the same model in int8: a checkpoint of its own, and what that cost and gained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from inference.models.checkpoint import load_checkpoint, save_checkpoint
from inference.models.int8 import is_quantised, quantise
from inference.training.calibrate import fit_temperature
from inference.training.config import ConfigError, TrainConfig
from inference.training.costs import compared
from inference.training.data import targets
from inference.training.evaluate import predict_logits
from inference.training.finish import evaluated_on, seal
from inference.training.plan import by_split, read_rows

CPU = torch.device("cpu")


def quantised(source: Path, target: Path, config: TrainConfig) -> dict[str, Any]:
    """Write the checkpoint of `source` in int8 to `target`, and return both models' figures on the test rows.

    `config` says which rows, and which of them for what: those that the model was trained on would flatter it.

    The new one has its own fingerprints, temperature and baseline, of the validation and test rows, since its
    embeddings and confidences are others. Works on the CPU, where such a model runs in integers.

    Raises CheckpointError, AnnotationsError, BaselineError, and ConfigError where there is nothing to be done.
    """
    if target.exists():
        raise ConfigError(f"{target}: is there already; choose another folder")
    modules = config.model.family_modules
    before = load_checkpoint(source, CPU, modules)
    model = load_checkpoint(source, CPU, modules).model
    if is_quantised(model):
        raise ConfigError(f"{source}: is in int8 already")
    data = config.data.model_copy(update={"labels": before.labels})
    sets = by_split(read_rows(config.model_copy(update={"data": data})), before.labels)
    if empty := [split for split in ("train", "validation") if not len(sets[split])]:
        raise ConfigError(f"{data.annotations}: no {' and no '.join(empty)} rows; the new baseline is made of them")
    if not quantise(model, before.encoders.values()):
        raise ConfigError(f"{source}: the encoders of {before.family.name} have no linear layers")
    logits = predict_logits(model, before.preprocessor, sets["validation"])
    temperature = fit_temperature(logits, targets(sets["validation"], CPU))
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    save_checkpoint(part, model, before.preprocessor, before.labels, temperature, modules)
    seal(part, CPU, sets, seed=0, modules=modules)
    part.rename(target)
    return compared(before, load_checkpoint(target, CPU, modules), sets[evaluated_on(sets)])

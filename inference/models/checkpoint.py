"""The torch half of a checkpoint folder: writes all of it, loads its model. `inference.models.card` has the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tokenizers import Tokenizer
from torch import Tensor, nn

from inference.modalities.base import Prepared
from inference.models.base import Family
from inference.models.card import (
    CARD,
    CONFIG,
    FORMAT_VERSION,
    FUSED,
    MANIFEST,
    PREPROCESSING,
    WEIGHTS,
    CheckpointError,
    ModelCard,
    load_card,
    read_json,
    verify_manifest,
    write_json,
    write_manifest,
)
from inference.models.int8 import is_quantised, quantise
from inference.models.preprocess import ImageSettings, Preprocessor, special_tokens
from inference.models.registry import families, find

__all__ = [
    "CARD",
    "CONFIG",
    "MANIFEST",
    "WEIGHTS",
    "Checkpoint",
    "CheckpointError",
    "load_checkpoint",
    "save_checkpoint",
    "verify_manifest",
    "write_manifest",
]

INT8 = "int8"
"""In the card of a checkpoint whose encoders' linear layers are in int8."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint: its card, its family, and its model in eval mode."""

    card: ModelCard
    family: Family
    model: nn.Module

    @property
    def version(self) -> str:
        """The card's."""
        return self.card.version

    @property
    def labels(self) -> tuple[str, ...]:
        """The card's."""
        return self.card.labels

    @property
    def temperature(self) -> float:
        """The card's."""
        return self.card.temperature

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """The card's."""
        return self.card.fingerprints

    @property
    def folder(self) -> Path:
        """The card's."""
        return self.card.folder

    @property
    def encoders(self) -> Mapping[str, str]:
        """The family's, of the model's modalities."""
        config: Any = self.model.config
        return self.family.encoders_of(config)

    @property
    def blanks(self) -> Mapping[str, Prepared]:
        """The card's."""
        return self.card.blanks

    @property
    def image(self) -> ImageSettings | None:
        """How its pictures are scaled; None for a raw model."""
        return None if self.card.preprocessor is None else self.card.preprocessor.image

    @property
    def preprocessor(self) -> Preprocessor:
        """The card's. Raises CheckpointError for a raw model, which has none."""
        if self.card.preprocessor is None:
            raise CheckpointError(f"{self.folder}: the family {self.family.name} has no preprocessing")
        return self.card.preprocessor


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    preprocessor: Preprocessor | None,
    labels: tuple[str, ...],
    temperature: float,
    family_modules: tuple[str, ...] = (),
) -> None:
    """Write every file of a checkpoint except the manifest, so that others can add theirs before it is sealed.

    Weights are rounded to float16: `model` in memory and the one that is loaded differ by that rounding. The
    preprocessor may be None for a raw family only.

    Raises:
        CheckpointError: the folder already holds a checkpoint, or the model belongs to no known family.
    """
    if (folder / CONFIG).exists():
        raise CheckpointError(f"{folder}: already holds a checkpoint; expected an empty folder")
    parsed = getattr(model, "config", None)
    family = _family(getattr(parsed, "model_type", None), folder, family_modules)
    assert parsed is not None
    encoders = family.encoders_of(parsed)
    if not family.raw and (preprocessor is None or set(preprocessor.modalities) != set(encoders)):
        raise CheckpointError(
            f"{folder}: the family {family.name} needs a preprocessor of {', '.join(sorted(encoders))}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: _rounded(value.detach().cpu()).contiguous() for name, value in model.state_dict().items()}
    config = json.loads(parsed.to_json_string(use_diff=True)) | {"dtype": "float16"}
    write_json(folder / CONFIG, config)
    # written as bytes: safetensors' own file writer makes it unreadable for the worker's user
    (folder / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
    if preprocessor is not None:
        _save_preprocessor(folder, preprocessor)
    card = {
        "format_version": FORMAT_VERSION,
        "labels": list(labels),
        "temperature": temperature,
        "fingerprints": _fingerprints(weights, family, encoders, folder),
    }
    marks = {"raw": family.raw, INT8: is_quantised(model)}
    write_json(folder / CARD, card | {name: True for name, holds in marks.items() if holds})


def load_checkpoint(folder: Path, device: torch.device, family_modules: tuple[str, ...] = ()) -> Checkpoint:
    """Load a sealed checkpoint onto `device`, weights as float32, model in eval mode. Touches no network.

    Raises:
        CheckpointError: the manifest does not match, or a file does not hold what it must.
    """
    folder = Path(folder)
    card = load_card(folder)
    config = read_json(folder / CONFIG)
    family = _family(config.get("model_type"), folder / CONFIG, family_modules)
    try:
        model = family.build(family.config.from_dict(config | {"dtype": "float32"}))
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    if read_json(folder / CARD).get(INT8) is True:
        quantise(model, family.encoders.values())
    weights = _read_weights(folder)
    try:
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()}, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: weights do not fit {CONFIG}: {error}") from error
    model.to(device).eval()
    return Checkpoint(card, family, model)


def _rounded(value: Tensor) -> Tensor:
    """In float16; counters, such as batch normalisation's, as they are."""
    return value.to(torch.float16) if value.is_floating_point() else value


def _save_preprocessor(folder: Path, preprocessor: Preprocessor) -> None:
    from transformers import PreTrainedTokenizerFast  # slow to import, and not needed to load a checkpoint

    for name in preprocessor.modalities:
        path = folder / PREPROCESSING[name]
        if name == "image" and preprocessor.image is not None:
            write_json(path, preprocessor.image.to_processor())
        elif name == "text":
            tokenizer = Tokenizer.from_str(preprocessor.tokenizer.to_str())
            markers: dict[str, Any] = special_tokens(tokenizer)
            PreTrainedTokenizerFast(
                tokenizer_object=tokenizer, model_max_length=preprocessor.max_tokens, **markers
            ).save_pretrained(folder)
        elif name == "tabular" and preprocessor.tabular is not None:
            write_json(path, preprocessor.tabular.to_config())
        elif name in preprocessor.sequences:
            write_json(path, preprocessor.sequences[name].to_config())


def _read_weights(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: expected safetensors: {error}") from error


def _fingerprints(
    weights: Mapping[str, Tensor], family: Family, encoders: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """SHA-256 per modality over its encoder's float16 weights and its preprocessing file; `fused` over everything."""
    preprocessing = {} if family.raw else {name: PREPROCESSING[name] for name in encoders}
    prints = {}
    for modality, prefix in (*sorted(encoders.items()), (FUSED, "")):
        digest = hashlib.sha256()
        for name in sorted(weights):
            if name.startswith(prefix):
                digest.update(name.encode())
                digest.update(weights[name].numpy().tobytes())
        for source in sorted(preprocessing) if modality == FUSED else [modality]:
            if source in preprocessing:
                digest.update((folder / preprocessing[source]).read_bytes())
        prints[modality] = digest.hexdigest()
    return prints


def _family(name: object, path: Path, modules: tuple[str, ...]) -> Family:
    try:
        return find(str(name), modules)
    except KeyError:
        known = sorted(families(modules))
        raise CheckpointError(f"{path}: expected model_type in {known}, found {name!r}") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from error

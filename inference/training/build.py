"""From the configuration to an untrained model with its preprocessing, or to a checkpoint's that is trained further."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, PreTrainedConfig

from inference.models.base import Family
from inference.models.card import CheckpointError
from inference.models.checkpoint import Checkpoint, load_checkpoint
from inference.models.preprocess import Preprocessor, special_tokens
from inference.models.registry import families
from inference.training.annotated import AnnotatedExamples
from inference.training.config import ConfigError, ModelConfig
from inference.training.data import LabelledExample, collate
from inference.training.preparing import CONFIG_OF, encoder_config, make_preprocessor, require_same

_TOWER_OF = {"image": "vision_model", "text": "text_model"}
_COMMON = {field.name for field in fields(PreTrainedConfig)}


@dataclass(frozen=True, slots=True)
class Built:
    """A model with what surrounds it; `labels` are in the order of its logits."""

    model: nn.Module
    family: Family
    preprocessor: Preprocessor
    labels: tuple[str, ...]


def build(
    config: ModelConfig,
    labels: tuple[str, ...],
    texts: Iterable[str],
    seed: int,
    given: Preprocessor | None = None,
    rows: AnnotatedExamples | None = None,
) -> Built:
    """The model on the CPU. `texts` are those of the training rows, for a tokenizer to be made of.

    `given` is the preprocessing that the model must have, because another one answers the same batches. `rows` are the
    training rows: they say what a family of any modalities takes, and scale sequences and tables.

    Raises ConfigError where the configuration does not make a model that takes what there is.
    """
    if config.checkpoint is not None:
        built = _loaded(config, labels)
        require_same(built.preprocessor, given, "model.checkpoint")
        return built
    family = find_family(config)
    torch.manual_seed(seed)
    donor = None if config.encoders is None else _donor(config.encoders, config.family_modules)
    if donor is None:
        preprocessor = make_preprocessor(config, taken(family, rows), texts, rows, given)
        options = _options(config, family, preprocessor)
    else:
        preprocessor, options = donor.preprocessor, _donated(config, family, donor)
        require_same(preprocessor, given, "model.encoders")
    classes: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
    }
    try:
        model = family.build(family.config(**options, **classes))
    except (ValueError, TypeError, KeyError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"model: {family.name} cannot be built of these options: {error}") from error
    for modality, folder in (("image", config.image.encoder), ("text", config.text.encoder)):
        if modality not in preprocessor.modalities:
            continue
        encoder = model.get_submodule(family.encoders[modality].rstrip("."))
        if donor is not None:
            encoder.load_state_dict(donor.model.get_submodule(donor.encoders[modality].rstrip(".")).state_dict())
        elif folder is not None:
            _take_weights(encoder, folder, modality)
    _try_out(model, preprocessor)
    return Built(model, family, preprocessor, labels)


def _donor(folder: Path, modules: tuple[str, ...]) -> Checkpoint:
    """A checkpoint of images and texts whose encoders are taken."""
    try:
        donor = load_checkpoint(folder, torch.device("cpu"), modules)
    except CheckpointError as error:
        raise ConfigError(f"model.encoders: {error}") from error
    _require_pair(donor.family)
    return donor


def _donated(config: ModelConfig, family: Family, donor: Checkpoint) -> dict[str, Any]:
    """The family's options, with the encoders that the donor has."""
    own: Any = donor.model.config
    _require_pair(family)
    options = {"image_stem": own.image_stem} if "image_stem" in options_of(family) else {}
    return _given(config, family) | options | {name: getattr(own, name).to_dict() for name in CONFIG_OF.values()}


def _loaded(config: ModelConfig, labels: tuple[str, ...]) -> Built:
    assert config.checkpoint is not None
    try:
        checkpoint = load_checkpoint(config.checkpoint, torch.device("cpu"), config.family_modules)
        built = Built(checkpoint.model, checkpoint.family, checkpoint.preprocessor, checkpoint.labels)
    except CheckpointError as error:
        raise ConfigError(f"model.checkpoint: {error}") from error
    if unknown := sorted(set(labels) - set(built.labels)):
        raise ConfigError(f"data: labels {unknown} are not among the checkpoint's {list(built.labels)}")
    return built


def find_family(config: ModelConfig) -> Family:
    """By its full name, or without the `fusion_` that full names begin with.

    Raises ConfigError where there is none, or it looks into nothing that annotations hold.
    """
    try:
        known = families(config.family_modules)
    except ValueError as error:
        raise ConfigError(f"model.family_modules: {error}") from error
    family = known.get(config.family) or known.get(f"fusion_{config.family}")
    if family is None:
        allowed = sorted(name.removeprefix("fusion_") for name, each in known.items() if not each.raw)
        raise ConfigError(f"model.family: {config.family!r} is unknown; allowed: {', '.join(allowed)}")
    if family.raw:
        raise ConfigError(f"model.family: {family.name} takes what was sent as it came; there is nothing to train")
    return family


def families_of(modalities: set[str], modules: tuple[str, ...]) -> list[str]:
    """The names of all families that take just these, without the `fusion_` that full names begin with.

    One that takes any of its modalities is for those that no other takes.
    """
    known = {name.removeprefix("fusion_"): each for name, each in sorted(families(modules).items()) if not each.raw}
    fixed = [name for name, each in known.items() if each.modalities is None and set(each.encoders) == modalities]
    return fixed or [name for name, each in known.items() if modalities <= set(each.encoders)]


def _is_pair(family: Family) -> bool:
    return not family.raw and set(family.encoders) == set(CONFIG_OF)


def _require_pair(family: Family) -> None:
    if not _is_pair(family):
        raise ConfigError(f"model.encoders: {family.name} is no family of {' and '.join(sorted(CONFIG_OF))}")


def taken(family: Family, rows: AnnotatedExamples | None) -> tuple[str, ...]:
    """The modalities that the model is to take, sorted. Raises ConfigError where the family cannot take the rows'."""
    if family.modalities is None:
        return tuple(sorted(family.encoders))
    there: set[str] = set().union(*(row.modalities for row in rows.rows)) if rows is not None else set()
    if len(there) < 2 or not there <= set(family.encoders):
        raise ConfigError(
            f"data: {family.name} takes two or more of {', '.join(sorted(family.encoders))}; the training rows have "
            f"{' and '.join(sorted(there)) or 'none'}"
        )
    return tuple(sorted(there))


def options_of(family: Family) -> set[str]:
    """The names that `model.options` may hold."""
    sections = {*CONFIG_OF.values(), *family.encoders}
    return {field.name for field in fields(family.config)} - _COMMON - sections


def _options(config: ModelConfig, family: Family, preprocessor: Preprocessor) -> dict[str, Any]:
    given = _given(config, family)
    known = {field.name for field in fields(family.config)}
    sections = _sections(config, preprocessor)
    placed = {CONFIG_OF.get(name, name) if CONFIG_OF.get(name) in known else name: x for name, x in sections.items()}
    return given | {name: section for name, section in placed.items() if name in known}


def _given(config: ModelConfig, family: Family) -> dict[str, Any]:
    """The family's options that the configuration names. Raises ConfigError where the family has no such option."""
    own, options = options_of(family), config.options
    if "options" not in config.model_fields_set:  # the default means nothing to some families
        return {name: value for name, value in options.items() if name in own}
    if unknown := sorted(set(options) - own):
        raise ConfigError(f"model.options: {', '.join(unknown)}: unknown; allowed: {', '.join(sorted(own))}")
    return dict(options)


def _sections(config: ModelConfig, preprocessor: Preprocessor) -> dict[str, dict[str, Any]]:
    """What describes the encoder of each modality."""
    sections: dict[str, dict[str, Any]] = {
        name: {"features": settings.features, "max_frames": settings.max_frames}
        for name, settings in preprocessor.sequences.items()
    }
    if preprocessor.tabular is not None:
        sizes = [len(values) for values in preprocessor.tabular.categories.values()]
        sections["tabular"] = {"numbers": len(preprocessor.tabular.numbers), "categories": sizes}
    if preprocessor.image is not None:
        sections["image"] = encoder_config("image", config.image.encoder, config.image.config, {})
    if "text" in preprocessor.modalities:
        sections["text"] = _text_section(config, preprocessor.tokenizer)
    return sections


def _text_section(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    known = tokenizer.get_vocab_size()
    implied = {
        "max_position_embeddings": config.text.max_tokens,
        "pad_token_id": tokenizer.token_to_id(special_tokens(tokenizer)["pad_token"]),
        "vocab_size": known,
    }
    section = encoder_config("text", config.text.encoder, config.text.config, implied)
    if (pieces := section.get("vocab_size", 0)) < known:
        raise ConfigError(f"model.text: the tokenizer has {known} pieces, the encoder's vocab_size is {pieces}")
    return section


def _take_weights(encoder: nn.Module, folder: Path, modality: str) -> None:
    """Copy a pretrained encoder's weights; what the fusion has no use for, such as a pooler, is left out."""
    try:
        source = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        tower = getattr(source, _TOWER_OF[modality], source)
        missing, _ = encoder.load_state_dict(tower.state_dict(), strict=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model.{modality}.encoder: {folder}: {error}") from error
    if missing:
        raise ConfigError(
            f"model.{modality}.encoder: {folder} lacks {len(missing)} of the weights that the family's encoder has, "
            f"{missing[0]} for one"
        )


def _try_out(model: nn.Module, preprocessor: Preprocessor) -> None:
    """Let the longest of everything through, so that sizes that do not fit are told before anything is done."""
    longest = {
        "image": np.zeros((8, 8, 3), np.uint8),
        "text": " ".join(["a"] * preprocessor.max_tokens),
        "tabular": {},
        **{name: np.zeros((each.max_frames, 0), np.float32) for name, each in preprocessor.sequences.items()},
    }
    image, told = preprocessor.image, []
    if image is not None:
        told.append(f"a picture of {image.width}×{image.height} and")
    example = LabelledExample.of("", {name: longest[name] for name in preprocessor.modalities}, 0)
    try:
        with torch.inference_mode():
            model.eval()(collate([example], preprocessor, torch.device("cpu")))
    except (ValueError, IndexError, RuntimeError) as error:
        told.append(f"a text of {preprocessor.max_tokens} tokens do not pass its encoders")
        raise ConfigError(f"model: {' '.join(told)} (model.image.size, model.text.max_tokens): {error}") from error

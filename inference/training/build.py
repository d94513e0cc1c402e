"""From the configuration to an untrained model with its preprocessing, or to a checkpoint's that is trained further."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from inference.models.base import Family
from inference.models.card import PROCESSOR, TOKENIZER, CheckpointError, read_json
from inference.models.checkpoint import Checkpoint, load_checkpoint
from inference.models.preprocess import ImageSettings, Preprocessor
from inference.models.registry import families
from inference.training.config import ConfigError, ModelConfig
from inference.training.data import LabelledExample, collate
from inference.training.wordpiece import build_tokenizer

CONFIG_OF = {"image": "vision_config", "text": "text_config"}
"""Where a family's configuration keeps that of each encoder, as in transformers' two-tower models."""
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
    config: ModelConfig, labels: tuple[str, ...], texts: Iterable[str], seed: int, given: Preprocessor | None = None
) -> Built:
    """The model on the CPU. `texts` are those of the training rows, for a tokenizer to be made of.

    `given` is the preprocessing that the model must have, because another one answers the same batches.

    Raises ConfigError where the configuration does not make a model that takes images and texts.
    """
    if config.checkpoint is not None:
        built = _loaded(config, labels)
        _require_same(built.preprocessor, given, "model.checkpoint")
        return built
    family = find_family(config)
    torch.manual_seed(seed)
    donor = None if config.encoders is None else _donor(config.encoders, config.family_modules)
    if donor is None:
        preprocessor = _preprocessor(config, texts, given)
        options = _options(config, family, preprocessor)
    else:
        preprocessor, options = donor.preprocessor, _donated(config, family, donor)
        _require_same(preprocessor, given, "model.encoders")
    names: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
    }
    try:
        model = family.build(family.config(**options, **names))
    except (ValueError, TypeError, KeyError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"model: {family.name} cannot be built of these options: {error}") from error
    for modality, folder in (("image", config.image.encoder), ("text", config.text.encoder)):
        encoder = model.get_submodule(family.encoders[modality].rstrip("."))
        if donor is not None:
            encoder.load_state_dict(donor.model.get_submodule(donor.encoders[modality].rstrip(".")).state_dict())
        elif folder is not None:
            _take_weights(encoder, folder, modality)
    _try_out(model, preprocessor)
    return Built(model, family, preprocessor, labels)


def _preprocessor(config: ModelConfig, texts: Iterable[str], given: Preprocessor | None) -> Preprocessor:
    if given is not None and config.text.tokenizer is None and config.text.encoder is None:
        return given
    own = Preprocessor(_image(config), _tokenizer(config, texts), config.text.max_tokens)
    _require_same(own, given, "model.text")
    return own


def _require_same(own: Preprocessor, given: Preprocessor | None, where: str) -> None:
    if given is None:
        return
    pairs = (
        ("tokenizer", own.tokenizer.get_vocab(), given.tokenizer.get_vocab()),
        ("longest text", own.max_tokens, given.max_tokens),
        ("picture size and scale", own.image, given.image),
    )
    if different := [name for name, mine, other in pairs if mine != other]:
        raise ConfigError(f"{where}: not the teacher's {', '.join(different)}; both must take the same batches")


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
    _refuse_unknown(config, family)
    given = {"image_stem": own.image_stem} if "image_stem" in options_of(family) else {}
    return dict(config.options) | given | {name: getattr(own, name).to_dict() for name in CONFIG_OF.values()}


def _loaded(config: ModelConfig, labels: tuple[str, ...]) -> Built:
    assert config.checkpoint is not None
    try:
        checkpoint = load_checkpoint(config.checkpoint, torch.device("cpu"), config.family_modules)
        built = Built(checkpoint.model, checkpoint.family, checkpoint.preprocessor, checkpoint.labels)
    except CheckpointError as error:
        raise ConfigError(f"model.checkpoint: {error}") from error
    if unknown := sorted(set(labels) - set(built.labels)):
        raise ConfigError(f"data: labels {unknown} are not among the checkpoint's {list(built.labels)}")
    _require_pair(built.family)
    return built


def find_family(config: ModelConfig) -> Family:
    """By its full name, or without the `fusion_` that full names begin with.

    Raises ConfigError where there is none, or it takes something else than images and texts.
    """
    try:
        known = families(config.family_modules)
    except ValueError as error:
        raise ConfigError(f"model.family_modules: {error}") from error
    family = known.get(config.family) or known.get(f"fusion_{config.family}")
    if family is None:
        allowed = ", ".join(pair_families(config.family_modules))
        raise ConfigError(f"model.family: {config.family!r} is unknown; allowed: {allowed}")
    _require_pair(family)
    return family


def pair_families(modules: tuple[str, ...]) -> list[str]:
    """The names of all families that take images and texts, without the `fusion_` that full names begin with."""
    known = families(modules).items()
    return [name.removeprefix("fusion_") for name, each in sorted(known) if _is_pair(each)]


def _is_pair(family: Family) -> bool:
    return not family.raw and set(family.encoders) == set(CONFIG_OF)


def _require_pair(family: Family) -> None:
    if not _is_pair(family):
        raise ConfigError(
            f"model.family: {family.name} takes {', '.join(sorted(family.encoders))}"
            f"{' as they came' if family.raw else ''}; annotations hold {' and '.join(sorted(CONFIG_OF))}"
        )


def options_of(family: Family) -> set[str]:
    """The names that `model.options` may hold."""
    return {field.name for field in fields(family.config)} - _COMMON - set(CONFIG_OF.values())


def _options(config: ModelConfig, family: Family, preprocessor: Preprocessor) -> dict[str, Any]:
    _refuse_unknown(config, family)
    tokenizer = preprocessor.tokenizer
    text = {"max_position_embeddings": preprocessor.max_tokens, "pad_token_id": tokenizer.token_to_id("[PAD]")}
    encoders = {
        "image": _encoder_config("image", config.image.encoder, config.image.config, {}),
        "text": _encoder_config(
            "text", config.text.encoder, config.text.config, text | {"vocab_size": tokenizer.get_vocab_size()}
        ),
    }
    rows, known = encoders["text"].get("vocab_size", 0), tokenizer.get_vocab_size()
    if rows < known:
        raise ConfigError(f"model.text: the tokenizer has {known} pieces, the encoder's vocab_size is {rows}")
    taken = {field.name for field in fields(family.config)}
    return dict(config.options) | {name: encoders[modality] for modality, name in CONFIG_OF.items() if name in taken}


def _refuse_unknown(config: ModelConfig, family: Family) -> None:
    own = options_of(family)
    if unknown := sorted(set(config.options) - own):
        raise ConfigError(f"model.options: {', '.join(unknown)}: unknown; allowed: {', '.join(sorted(own))}")


def _encoder_config(
    modality: str, folder: Path | None, given: Mapping[str, Any], implied: Mapping[str, Any]
) -> dict[str, Any]:
    """Of a two-tower model, such as CLIP, that of the modality's tower."""
    if folder is None:
        return {**implied, **given}
    try:
        loaded: dict[str, Any] = AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: expected a pretrained encoder: {error}") from error
    tower: dict[str, Any] = loaded.get(CONFIG_OF[modality], loaded)
    return tower


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
    """Let one picture and the longest text through, so that sizes that do not fit are told before anything is done."""
    longest = " ".join(["a"] * preprocessor.max_tokens)
    example = LabelledExample("", np.zeros((8, 8, 3), np.uint8), longest, 0)
    size = f"{preprocessor.image.width}×{preprocessor.image.height}"
    try:
        with torch.inference_mode():
            model.eval()(collate([example], preprocessor, torch.device("cpu")))
    except (ValueError, IndexError, RuntimeError) as error:
        raise ConfigError(
            f"model: a picture of {size} and a text of {preprocessor.max_tokens} tokens do not pass its encoders "
            f"(model.image.size, model.text.max_tokens): {error}"
        ) from error


def _tokenizer(config: ModelConfig, texts: Iterable[str]) -> Tokenizer:
    folder = config.text.tokenizer or config.text.encoder
    if folder is None:
        try:
            return build_tokenizer(texts, config.text.vocabulary)
        except ValueError as error:
            raise ConfigError(f"model.text.vocabulary: {error}") from error
    try:
        return Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the library raises plain Exception
        raise ConfigError(f"model.text.tokenizer: {folder / TOKENIZER}: expected a tokenizer: {error}") from error


def _image(config: ModelConfig) -> ImageSettings:
    """As the encoder's own preprocessing says, where it comes with one."""
    image, folder = config.image, config.image.encoder
    if folder is not None and (folder / PROCESSOR).exists():
        try:
            found = ImageSettings.from_processor(read_json(folder / PROCESSOR))
        except (ValueError, CheckpointError) as error:
            raise ConfigError(f"model.image.encoder: {folder / PROCESSOR}: {error}") from error
        return ImageSettings(image.size or found.height, image.size or found.width, found.mean, found.std)
    said = _encoder_config("image", folder, image.config, {}).get("image_size")
    size = image.size or (said if isinstance(said, int) else 224)
    return ImageSettings(size, size, image.mean, image.std)

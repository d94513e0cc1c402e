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
from inference.models.checkpoint import load_checkpoint
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


def build(config: ModelConfig, labels: tuple[str, ...], texts: Iterable[str], seed: int) -> Built:
    """The model on the CPU. `texts` are those of the training rows, for a tokenizer to be made of.

    Raises ConfigError where the configuration does not make a model that takes images and texts.
    """
    if config.checkpoint is not None:
        return _loaded(config, labels)
    family = find_family(config)
    torch.manual_seed(seed)
    tokenizer = _tokenizer(config, texts)
    options = _options(config, family, tokenizer)
    names: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
    }
    try:
        model = family.build(family.config(**options, **names))
    except (ValueError, TypeError, KeyError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"model: {family.name} cannot be built of these options: {error}") from error
    for modality, folder in (("image", config.image.encoder), ("text", config.text.encoder)):
        if folder is not None:
            _take_weights(model.get_submodule(family.encoders[modality].rstrip(".")), folder, modality)
    preprocessor = Preprocessor(_image(config), tokenizer, config.text.max_tokens)
    _try_out(model, preprocessor)
    return Built(model, family, preprocessor, labels)


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
        allowed = sorted(name.removeprefix("fusion_") for name, each in known.items() if not each.raw)
        raise ConfigError(f"model.family: {config.family!r} is unknown; allowed: {', '.join(allowed)}")
    _require_pair(family)
    return family


def _require_pair(family: Family) -> None:
    if family.raw or set(family.encoders) != set(CONFIG_OF):
        raise ConfigError(
            f"model.family: {family.name} takes {', '.join(sorted(family.encoders))}"
            f"{' as they came' if family.raw else ''}; annotations hold {' and '.join(sorted(CONFIG_OF))}"
        )


def options_of(family: Family) -> set[str]:
    """The names that `model.options` may hold."""
    return {field.name for field in fields(family.config)} - _COMMON - set(CONFIG_OF.values())


def _options(config: ModelConfig, family: Family, tokenizer: Tokenizer) -> dict[str, Any]:
    own = options_of(family)
    if unknown := sorted(set(config.options) - own):
        raise ConfigError(f"model.options: {', '.join(unknown)}: unknown; allowed: {', '.join(sorted(own))}")
    text = {"max_position_embeddings": config.text.max_tokens, "pad_token_id": tokenizer.token_to_id("[PAD]")}
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

"""What prepares values for a model to be trained: from its configuration, its encoders and the training rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoConfig

from inference.models.card import PROCESSOR, SEQUENCES, TOKENIZER, CheckpointError, read_json
from inference.models.columns import SequenceSettings, TabularSettings
from inference.models.preprocess import ImageSettings, Preprocessor
from inference.training.annotated import AnnotatedExamples
from inference.training.config import ConfigError, ModelConfig
from inference.training.wordpiece import build_tokenizer

CONFIG_OF = {"image": "vision_config", "text": "text_config"}
"""Where an image-text family's configuration keeps that of each encoder, as in transformers' two-tower models."""
SCALED_ON = 1000
"""Sequences whose frames give the features' means and deviations, at most."""


def make_preprocessor(
    config: ModelConfig,
    names: tuple[str, ...],
    texts: Iterable[str],
    rows: AnnotatedExamples | None,
    given: Preprocessor | None,
) -> Preprocessor:
    """What prepares the values of the modalities `names`; `given` where nothing else is asked for, see `build`.

    Raises ConfigError where an encoder's folder, or the rows, do not say how.
    """
    if given is not None and config.text.tokenizer is None and config.text.encoder is None:
        return given
    tables = [row.tabular for row in rows.rows if row.tabular is not None] if rows is not None else []
    own = Preprocessor(
        _image(config) if "image" in names else None,
        _tokenizer(config, texts) if "text" in names else None,
        config.text.max_tokens if "text" in names else 0,
        sequences={
            name: _sequence_settings(name, config, rows) for name in SEQUENCES if name in names and rows is not None
        },
        tabular=TabularSettings.fit(tables) if "tabular" in names else None,
    )
    require_same(own, given, "model.text")
    return own


def require_same(own: Preprocessor, given: Preprocessor | None, where: str) -> None:
    """Raises ConfigError, named after the setting `where`, unless both take the same batches."""
    if given is None:
        return
    mine, others = _comparable(own), _comparable(given)
    if different := [name for name, value in mine.items() if value != others[name]]:
        raise ConfigError(f"{where}: not the teacher's {', '.join(different)}; both must take the same batches")


def _comparable(preprocessor: Preprocessor) -> dict[str, Any]:
    """What two models must have in common to take the same batches."""
    tabular = preprocessor.tabular
    return {
        "modalities": preprocessor.modalities,
        "tokenizer": preprocessor.tokenizer.get_vocab() if "text" in preprocessor.modalities else None,
        "longest text": preprocessor.max_tokens,
        "picture size and scale": preprocessor.image,
        "scales of sequences": {name: each.to_config() for name, each in preprocessor.sequences.items()},
        "columns": None if tabular is None else tabular.to_config(),
    }


def _sequence_settings(name: str, config: ModelConfig, rows: AnnotatedExamples) -> SequenceSettings:
    """Scales of `audio` or `video`, of rows spread evenly over those that have it."""
    having = [number for number, row in enumerate(rows.rows) if name in row.sequences]
    chosen = [having[place] for place in np.linspace(0, len(having) - 1, min(len(having), SCALED_ON)).astype(int)]
    most = config.audio.max_frames if name == "audio" else config.video.max_frames
    return SequenceSettings.fit((rows.value(number, name) for number in chosen), most)


def encoder_config(
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
    said = encoder_config("image", folder, image.config, {}).get("image_size")
    size = image.size or (said if isinstance(said, int) else 224)
    return ImageSettings(size, size, image.mean, image.std)

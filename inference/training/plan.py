"""All that a training run needs before its first step: rows by split, an untrained model, how to fit it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from inference.baseline import FEWEST_ROWS
from inference.models.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from inference.training.annotated import SPLITS, AnnotatedExamples, Row
from inference.training.annotations import Shares, read_annotations
from inference.training.batches import inverse_frequency
from inference.training.build import Built, build
from inference.training.config import ConfigError, TrainConfig
from inference.training.fit_settings import Contrast, FitSettings

Sets = dict[str, AnnotatedExamples]
"""Examples by split."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run before it begins; `rows` are those of `sets`, in the file's order."""

    config: TrainConfig
    rows: Sequence[Row]
    sets: Sets
    built: Built
    settings: FitSettings
    teacher: Checkpoint | None

    @property
    def whole(self) -> bool:
        """Whether the model sees every modality that it takes."""
        return _whole(self.config, self.built)


def plan(config: TrainConfig) -> Plan:
    """Read, check and build. Raises AnnotationsError, ConfigError."""
    rows, teacher = read_rows(config), _teacher(config)
    labels = _labels(config, rows, teacher)
    _require_rows(rows, labels)
    learnt_from = [row for row in rows if row.split == "train"]
    texts = [row.text for row in learnt_from if row.text is not None]
    given, examples = None if teacher is None else teacher.preprocessor, AnnotatedExamples(learnt_from, labels)
    built = build(config.model, labels, texts, config.training.seed, given, examples)
    _require_complete(config, rows, built)
    settings = fit_settings(config, built.labels, learnt_from)
    return Plan(config, rows, by_split(rows, built.labels), built, settings, teacher)


def by_split(rows: Iterable[Row], labels: tuple[str, ...]) -> Sets:
    """The examples of every split; `labels` in the model's order."""
    known = list(rows)
    return {split: AnnotatedExamples([row for row in known if row.split == split], labels) for split in SPLITS}


def read_rows(config: TrainConfig) -> list[Row]:
    """The rows, each with its split and with the modalities that the model is to see. Raises AnnotationsError."""
    data = config.data
    shares = Shares(data.validation_share, data.test_share, data.split_seed)
    rows = read_annotations(data.annotations, data.labels or None, shares)
    if not data.modalities:
        return rows
    return [seen for row in rows if (seen := row.only(data.modalities)).modalities]


def _teacher(config: TrainConfig) -> Checkpoint | None:
    if config.distill.teacher is None:
        return None
    try:
        return load_checkpoint(config.distill.teacher, torch.device("cpu"), config.model.family_modules)
    except CheckpointError as error:
        raise ConfigError(f"distill.teacher: {error}") from error


def _labels(config: TrainConfig, rows: Sequence[Row], teacher: Checkpoint | None) -> tuple[str, ...]:
    """In the model's order, which is the teacher's where there is one."""
    found = sorted({row.label for row in rows})
    if teacher is None:
        return config.data.labels or tuple(found)
    if unknown := sorted({*found, *config.data.labels} - set(teacher.labels)):
        raise ConfigError(f"data: labels {unknown} are not among the teacher's {list(teacher.labels)}")
    return teacher.labels


def fit_settings(config: TrainConfig, labels: tuple[str, ...], rows: Sequence[Row]) -> FitSettings:
    """What the fit is told. Raises ConfigError where the class of true pairs is none of the labels."""
    training, pair = config.training, config.training.contrastive_label
    if pair is not None and pair not in labels:
        raise ConfigError(f"training.contrastive_label: {pair!r} is unknown; allowed: {', '.join(labels)}")
    numbers = AnnotatedExamples(rows, labels).labels
    contrast = Contrast(
        training.contrastive_weight, training.contrastive_temperature, None if pair is None else labels.index(pair)
    )
    return FitSettings(
        steps=training.steps,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        warmup=training.warmup,
        drop=training.drop,
        unimodal_weight=training.unimodal_weight,
        clip=training.clip,
        seed=training.seed,
        deadline_s=float("inf"),
        encoder_rate=training.encoder_rate,
        thaw=training.thaw,
        balance=training.balance,
        balance_strength=training.balance_strength,
        class_weights=inverse_frequency(numbers, len(labels)) if config.data.class_weights == "balanced" else (),
        sampling=config.data.sampling,
        augment=config.augment.settings(),
        contrast=contrast,
        precision=training.precision,
    )


def _require_rows(rows: Sequence[Row], labels: tuple[str, ...]) -> None:
    """Refuse before anything is trained what could not be finished."""
    if len(labels) < 2:
        raise ConfigError(f"data: every row has the label {labels[0]!r}; expected two classes at least")
    for split, wanted in (("train", 1), ("validation", 1)):
        if sum(row.split == split for row in rows) < wanted:
            raise ConfigError(f"data: no {split} rows; expected one at least")


def _whole(config: TrainConfig, built: Built) -> bool:
    return not config.data.modalities or set(config.data.modalities) >= set(built.preprocessor.modalities)


def _require_complete(config: TrainConfig, rows: Sequence[Row], built: Built) -> None:
    names = built.preprocessor.modalities
    complete = sum(row.split != "train" and row.modalities >= set(names) for row in rows)
    if _whole(config, built) and complete < FEWEST_ROWS:
        raise ConfigError(
            f"data: {complete} validation and test rows with {' and '.join(names)}; the baseline needs {FEWEST_ROWS}"
        )

"""A whole training run: rows in; a sealed checkpoint with its temperature and baseline, and a report on it, out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from inference.baseline import FEWEST_ROWS
from inference.models.checkpoint import Checkpoint, save_checkpoint
from inference.training.annotations import SPLITS, AnnotatedExamples, Row, Shares, read_annotations
from inference.training.batches import inverse_frequency
from inference.training.build import Built, build
from inference.training.calibrate import fit_temperature
from inference.training.config import ConfigError, TrainConfig
from inference.training.data import targets
from inference.training.evaluate import predict_logits
from inference.training.fit import FitResult, fit
from inference.training.fit_settings import Contrast, FitSettings
from inference.training.keep import OutputFolder
from inference.training.page import page
from inference.training.report import report
from inference.training.team import Team
from inference.training.tracking import STOPPED, UNTRACKED, Tracker, followed
from inference.training.validation import seal_with_baseline
from inference.training.watch import Look, Watch

MAPS_ROWS = 4096
"""Training rows that the baseline's maps are fitted on, at most: more change them little and take their time."""


class Tell(Protocol):
    """Who is told how far the run has come; only the leader of a team tells."""

    def phase(self, name: str) -> None:
        """Something else begins."""
        ...

    def step(self, step: int, steps: int, loss: float) -> None:
        """A step was made."""
        ...

    def look(self, look: Look) -> None:
        """The validation rows were looked at."""
        ...


@dataclass(frozen=True, slots=True)
class Trained:
    """How it ended: the version and the report of a finished run; neither where it was stopped, or not the leader."""

    ended: str
    steps: int
    version: str | None = None
    report: dict[str, Any] | None = None


def train(
    config: TrainConfig,
    team: Team,
    tell: Tell,
    should_stop: Callable[[], bool],
    *,
    force: bool,
    tracker: Tracker = UNTRACKED,
) -> Trained:
    """Train as the configuration says, or go on where an earlier run of it was stopped or killed.

    Raises AnnotationsError, ConfigError, FolderError, TrackingError: nothing was begun. FloatingPointError: the loss is
    not finite.
    """
    if team.leads:
        tell.phase("reading annotations")
    rows = read_rows(config)
    labels = config.data.labels or tuple(sorted({row.label for row in rows}))
    _require_rows(rows, labels)
    parts = {split: [row for row in rows if row.split == split] for split in SPLITS}
    texts = [row.text for row in parts["train"] if row.text is not None]
    built = build(config.model, labels, texts, config.training.seed)
    settings = fit_settings(config, built.labels, parts["train"])
    folder = OutputFolder(config.output)
    if team.leads:
        folder.open(config, rows, force=force)
    team.wait()
    sets = {split: AnnotatedExamples(parts[split], built.labels) for split in SPLITS}

    def seen(look: Look) -> None:
        tell.look(look)
        tracker.look(look)

    with followed(tracker, config, folder):
        watch = _watch(config, built, sets["validation"], folder, team, seen)
        fitted = _fit(settings, built, sets["train"], watch, team, tell, should_stop)
        if fitted.ended == "stopped":
            tracker.end(STOPPED)
        if fitted.ended == "stopped" or not team.leads:
            return Trained(fitted.ended, fitted.steps)
        report = _finish(config, built, sets, folder, team.device, tell, fitted, watch)
        tracker.finish(report)
    return Trained(fitted.ended, fitted.steps, report["version"], report)


def read_rows(config: TrainConfig) -> list[Row]:
    """The rows, each with its split. Raises AnnotationsError."""
    data = config.data
    shares = Shares(data.validation_share, data.test_share, data.split_seed)
    return read_annotations(data.annotations, data.labels or None, shares)


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
    held_out = [row for row in rows if row.split != "train"]
    for split, wanted in (("train", 1), ("validation", 1)):
        if sum(row.split == split for row in rows) < wanted:
            raise ConfigError(f"data: no {split} rows; expected one at least")
    complete = sum(row.image is not None and row.text is not None for row in held_out)
    if complete < FEWEST_ROWS:
        raise ConfigError(
            f"data: {complete} validation and test rows with picture and text; the baseline needs {FEWEST_ROWS}"
        )


def _watch(
    config: TrainConfig,
    built: Built,
    validation: AnnotatedExamples,
    folder: OutputFolder,
    team: Team,
    told: Callable[[Look], None],
) -> Watch:
    training = config.training
    return Watch(
        folder,
        validation,
        built.preprocessor,
        team,
        every=training.evaluate_every,
        patience=training.patience,
        save_every=training.save_every,
        told=told,
    )


def _fit(
    settings: FitSettings,
    built: Built,
    examples: AnnotatedExamples,
    watch: Watch,
    team: Team,
    tell: Tell,
    should_stop: Callable[[], bool],
) -> FitResult:
    if team.leads:
        tell.phase("training")
    fitted = fit(
        built.model.to(team.device),
        built.preprocessor,
        examples,
        settings,
        encoders=built.family.encoders,
        team=team,
        before=watch.before,
        after=watch.after,
        progress=tell.step if team.leads else None,
        should_stop=should_stop,
    )
    if fitted.ended == "stopped":
        watch.save()
    watch.load_best(built.model)
    return fitted


def _finish(
    config: TrainConfig,
    built: Built,
    sets: dict[str, AnnotatedExamples],
    folder: OutputFolder,
    device: torch.device,
    tell: Tell,
    fitted: FitResult,
    watch: Watch,
) -> dict[str, Any]:
    """Make checkpoint and report of the weights that the model has now; the report."""
    seconds = watch.seconds
    tell.phase("calibrating, making the baseline")
    checkpoint = _sealed(config, built, sets, folder, device)
    tell.phase("evaluating")
    told = {"seconds": round(seconds, 1), **_report(config, checkpoint, sets, fitted, watch)}
    folder.publish()
    folder.finish(told, page(told))
    return told


def _sealed(
    config: TrainConfig,
    built: Built,
    sets: dict[str, AnnotatedExamples],
    folder: OutputFolder,
    device: torch.device,
) -> Checkpoint:
    logits = predict_logits(built.model, built.preprocessor, sets["validation"])
    temperature = fit_temperature(logits, targets(sets["validation"], torch.device("cpu")))
    part, modules = folder.fresh_part(), config.model.family_modules
    save_checkpoint(part, built.model, built.preprocessor, built.labels, temperature, modules)
    held_out = _complete([*sets["validation"].rows, *sets["test"].rows])
    fit_on = _complete(sets["train"].rows)
    if len(fit_on) > MAPS_ROWS:
        fit_on = random.Random(config.training.seed).sample(fit_on, MAPS_ROWS)
    return seal_with_baseline(
        part, device, AnnotatedExamples(held_out, built.labels), AnnotatedExamples(fit_on, built.labels), modules
    )


def _complete(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.image is not None and row.text is not None]


def _report(
    config: TrainConfig, checkpoint: Checkpoint, sets: dict[str, AnnotatedExamples], fitted: FitResult, watch: Watch
) -> dict[str, Any]:
    on = "test" if len(sets["test"]) else "validation"
    return {
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
        **report(checkpoint, sets[on], config.training.contrastive_label),
        "config": config.model_dump(mode="json"),
    }

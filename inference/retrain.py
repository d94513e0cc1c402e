"""The work on a retrain job: labelled rows in, a sealed candidate checkpoint and its measurements out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Engine, select
from torch import nn

from inference import registry
from inference.baseline import Baseline
from inference.errors import InferenceError
from inference.hashing import Hasher
from inference.jobs import ClaimedJob
from inference.labelled import LabelledRow, Resolved, Resolver, labelled_rows
from inference.modalities.base import modalities
from inference.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from inference.request import RequestParser
from inference.training.calibrate import fit_temperature
from inference.training.compare import compare, latencies
from inference.training.data import LabelledExample, split, targets
from inference.training.evaluate import predict_logits
from inference.training.fit import fit
from inference.training.fit_settings import FitSettings
from inference.training.store import LocalStore
from inference.training.validation import seal_with_baseline
from migrations.schema.monitoring import model_versions

_log = logging.getLogger(__name__)


class NotEnoughRowsError(InferenceError):
    """Too few labelled rows could be resolved to train on and to measure with."""

    code = "not_enough_rows"


class UnknownVersionError(InferenceError):
    """The job names a base version that is not registered."""

    code = "unknown_version"


@dataclass(frozen=True, slots=True)
class RetrainSettings:
    """Where things are and how rows are dealt.

    `held_out_share` of the rows is never trained on: half of it calibrates, half of it measures champion and
    candidate, and all of it is the candidate's baseline. `replay_share` of the training examples comes from what the
    champion was trained on, so that the candidate does not forget it. What `test` holds, a folder of labelled messages
    that stay the same, is never trained on either: the gate looks at it beside the recent rows.
    """

    checkpoints: Path
    store: Path
    replay: Path | None
    fit: FitSettings
    held_out_share: float = 0.4
    replay_share: float = 0.3
    min_rows: int = 300
    family_modules: tuple[str, ...] = ()
    test: Path | None = None


@dataclass(frozen=True, slots=True)
class Deal:
    """Examples by what they are for."""

    training: list[LabelledExample]
    calibration: list[LabelledExample]
    measuring: list[LabelledExample]

    @property
    def unseen(self) -> list[LabelledExample]:
        """What was not trained on."""
        return self.calibration + self.measuring


class Retraining:
    """`inference.trainer.Work`: trains one job's candidate, registers it, and measures it against the champion."""

    def __init__(self, engine: Engine, hasher: Hasher, settings: RetrainSettings, device: torch.device) -> None:
        self._engine = engine
        self._hasher = hasher
        self._settings = settings
        self._device = device

    def __call__(
        self, job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]
    ) -> Mapping[str, Any]:
        """Run the job. Raises NotEnoughRowsError, or what loading, training or sealing raise."""
        progress(phase="reading labelled rows")
        champion = self._load(job.spec["base_version"])
        resolved = self._resolve(job, champion)
        test = self._labelled(self._settings.test, champion)
        frozen = {example.key for example in test}
        deal, replay = self._deal([each for each in resolved.examples if each.key not in frozen], champion)
        replay = [each for each in replay if each.key not in frozen]
        progress(phase="training", rows=len(deal.training), replay=len(replay))
        model, fitted = self._fit(champion, deal.training + replay, progress, should_stop)
        if should_stop():
            return {}
        progress(phase="calibrating and measuring")
        temperature = self._temperature(model, champion, deal.calibration)
        candidate = self._seal(job, model, champion, temperature, deal)
        self._register(candidate, job)
        return {
            "training": {
                "rows": len(deal.training),
                "held_out": len(deal.unseen),
                "replay": len(replay),
                "left_out": dict(resolved.left_out),
                "seconds": round(fitted.seconds, 1),
                "steps": fitted.steps,
                "ended": fitted.ended,
                "fit": asdict(self._settings.fit),
            },
            **measure(champion, candidate, deal.measuring, test),
        }

    def _load(self, version: str) -> Checkpoint:
        with self._engine.connect() as connection:
            folder = connection.scalar(select(model_versions.c.checkpoint).where(model_versions.c.version == version))
        if folder is None:
            raise UnknownVersionError(f"version {version} is not registered")
        return load_checkpoint(Path(folder), self._device, self._settings.family_modules)

    def _resolve(self, job: ClaimedJob, champion: Checkpoint) -> Resolved:
        until, limit = datetime.fromisoformat(job.spec["labels_until"]), int(job.spec["max_rows"])
        with self._engine.connect() as connection:
            rows = labelled_rows(connection, until, limit)
        resolved = self._resolver(self._settings.store, champion, self._hasher).resolve(rows)
        if len(resolved.examples) < self._settings.min_rows:
            raise NotEnoughRowsError(
                f"{len(resolved.examples)} of {len(rows)} labelled rows can be used, {self._settings.min_rows} are "
                f"needed; left out: {dict(resolved.left_out)}"
            )
        return resolved

    def _resolver(self, store: Path, champion: Checkpoint, hasher: Hasher | None) -> Resolver:
        known = modalities()
        chosen = {name: known[name] for name in champion.card.modalities}
        parser = RequestParser({name: modality.wire for name, modality in known.items()})
        return Resolver(LocalStore(store), parser, chosen, champion.labels, hasher)

    def _deal(self, examples: list[LabelledExample], champion: Checkpoint) -> tuple[Deal, list[LabelledExample]]:
        training, unseen = split(examples, self._settings.held_out_share, salt="held out")
        calibration, measuring = split(unseen, 0.5, salt="measuring")
        share = self._settings.replay_share
        wanted = round(len(training) * share / (1 - share))
        return Deal(training, calibration, measuring), self._labelled(self._settings.replay, champion)[:wanted]

    def _labelled(self, folder: Path | None, champion: Checkpoint) -> list[LabelledExample]:
        """The usable examples of a folder that brings its own labels."""
        if folder is None:
            return []
        labels = LocalStore(folder).labels()
        rows = [LabelledRow(request_id, label, {}) for request_id, label in sorted(labels.items())]
        return self._resolver(folder, champion, None).resolve(rows).examples

    def _fit(
        self,
        champion: Checkpoint,
        examples: Sequence[LabelledExample],
        progress: Callable[..., None],
        should_stop: Callable[[], bool],
    ) -> tuple[nn.Module, Any]:
        model = copy.deepcopy(champion.model)
        told = _Told(progress)
        fitted = fit(
            model, champion.preprocessor, examples, self._settings.fit, progress=told.step, should_stop=should_stop
        )
        return model, fitted

    def _temperature(self, model: nn.Module, champion: Checkpoint, examples: Sequence[LabelledExample]) -> float:
        logits = predict_logits(model, champion.preprocessor, examples)
        return fit_temperature(logits, targets(examples, torch.device("cpu")))

    def _seal(
        self, job: ClaimedJob, model: nn.Module, champion: Checkpoint, temperature: float, deal: Deal
    ) -> Checkpoint:
        # A folder of its own for each attempt: what an attempt that died left behind is in nobody's way.
        folder = self._settings.checkpoints / f"job-{job.job_id}-attempt-{job.attempt}"
        modules = self._settings.family_modules
        save_checkpoint(folder, model, champion.preprocessor, champion.labels, temperature, modules)
        return seal_with_baseline(folder, self._device, deal.unseen, deal.training, modules)

    def _register(self, candidate: Checkpoint, job: ClaimedJob) -> None:
        with self._engine.begin() as connection:
            registry.register(connection, candidate.card, Baseline.load(candidate.folder), job.model, job_id=job.job_id)


@dataclass(slots=True)
class _Told:
    """Turns the fit's steps into progress facts."""

    progress: Callable[..., None]

    def step(self, step: int, steps: int, loss: float) -> None:
        self.progress(step=step, steps=steps, loss=round(loss, 4))


def measure(
    champion: Checkpoint,
    candidate: Checkpoint,
    recent: Sequence[LabelledExample],
    test: Sequence[LabelledExample] = (),
) -> dict[str, Any]:
    """Both models as the gate takes it: on recent examples, and under `test` on a frozen test set."""
    measured = compare(champion, candidate, recent)
    spent = latencies((champion, candidate), recent)
    for name, milliseconds in zip(("champion", "candidate"), spent, strict=True):
        measured[name]["latency_ms"] = milliseconds
    if test:
        measured["test"] = compare(champion, candidate, test)
    return measured

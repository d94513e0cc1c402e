"""The work on a retrain job: labelled rows in, a sealed candidate checkpoint and its measurements out."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Engine, select
from torch import nn

from inference import jobs, lineage, registry
from inference.baseline import Baseline
from inference.errors import InferenceError
from inference.gather import Deal, Gathered, Gathering, GatherSettings
from inference.hashing import Hasher
from inference.job_tracking import JobTracker
from inference.jobs import ClaimedJob
from inference.labelled import LabelledRow
from inference.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from inference.takeover import Saver, States
from inference.training.calibrate import fit_temperature
from inference.training.compare import compare, latencies
from inference.training.data import LabelledExample, targets
from inference.training.evaluate import predict_logits
from inference.training.fit import FitResult, fit
from inference.training.fit_settings import FitSettings
from inference.training.keep import Kept
from inference.training.mlflow_run import FAILED, STOPPED
from inference.training.team import Team
from inference.training.validation import seal_with_baseline
from migrations.schema.monitoring import model_versions

_log = logging.getLogger(__name__)

NAMED = 20  # left-out rows that a result names; all of them are in job_rows


class UnknownVersionError(InferenceError):
    """The job names a base version that is not registered."""

    code = "unknown_version"


@dataclass(frozen=True, slots=True)
class RetrainSettings:
    """Where things are, where rows come from, and how to fit.

    Half of what is held out calibrates, half of it measures champion and candidate, and all of it is the candidate's
    baseline. `checkpoints` also holds what a later attempt goes on from, saved every `save_every` steps: every trainer
    of the model sees it.
    """

    checkpoints: Path
    gather: GatherSettings
    fit: FitSettings
    save_every: int = 50
    family_modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the leader tells its team: the champion's folder, the rows to train on, and the state to go on from."""

    folder: Path
    rows: list[tuple[str, LabelledRow]]
    taken_up: Kept | None


class Retraining:
    """`inference.trainer.Work`: trains one job's candidate, registers it, and measures it against the champion."""

    def __init__(
        self,
        engine: Engine,
        hasher: Hasher,
        settings: RetrainSettings,
        device: torch.device,
        team: Team | None = None,
        tracker: JobTracker | None = None,
    ) -> None:
        """`team`: the processes that train together; this one leads them. `tracker` is told of each job."""
        self._engine = engine
        self._hasher = hasher
        self._settings = settings
        self._device = device
        self._team = team or Team(device)
        self._tracker = tracker or JobTracker()
        self._planned = False

    def __call__(
        self, job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]
    ) -> Mapping[str, Any]:
        """Run the job. Raises what gathering, loading, training or sealing raise; LeaseLostError."""
        try:
            return self._worked(job, progress, should_stop)
        except BaseException:
            self._tracker.end(FAILED)
            raise

    def _worked(
        self, job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]
    ) -> Mapping[str, Any]:
        progress(phase="reading labelled rows")
        folder = self._folder(job.spec["base_version"])
        champion = self._load(folder)
        gathered = Gathering(self._settings.gather, self._hasher, champion)(self._engine, job)
        told = self._lineage(job, gathered)
        with self._engine.begin() as connection:
            lineage.record(connection, job, gathered.used, told)
        self._tracker.begin(job, self._settings.fit, told)
        saver = self._saver(job, gathered)
        self._share(_Plan(folder, gathered.fit_rows, saver.taken_up))
        counts = {"rows": len(gathered.deal.training), "replay": len(gathered.replay)}
        progress(phase="training", **counts, **({"resumed_at": saver.step} if saver.step else {}))
        telling = _Told(progress, self._settings.fit, self._tracker)
        model, fitted = self._fit(champion, gathered.examples, saver, telling, should_stop)
        if should_stop():
            saver.save()
            self._tracker.end(STOPPED)
            return {}
        progress(phase="calibrating and measuring")
        temperature = self._temperature(model, champion, gathered.deal.calibration)
        candidate = self._seal(job, model, champion, temperature, gathered.deal)
        self._register(candidate, job)
        saver.states.clear()
        result = {
            "training": {**counts, "held_out": len(gathered.deal.unseen), **self._told(gathered, fitted, saver)},
            **measure(champion, candidate, gathered.deal.measuring, gathered.test),
        }
        self._tracker.finish(result, candidate.version, candidate.folder)
        return result

    def follow(self) -> None:
        """Train along with the leader, as one of its team; returns when that is done, or there is nothing to do."""
        plan: _Plan | None = self._team.shared(None)
        if plan is None:
            return
        champion = self._load(plan.folder)
        examples = Gathering(self._settings.gather, self._hasher, champion).again(plan.rows)
        saver = Saver(States(self._settings.checkpoints, 0, 0), "", self._settings.save_every, plan.taken_up, float)
        self._fit(champion, examples, saver, None, lambda: False)

    def dismiss(self) -> None:
        """Let the team go, where it has been told of no work."""
        if not self._planned:
            self._share(None)

    def _share(self, plan: _Plan | None) -> None:
        self._planned = True
        self._team.shared(plan)

    def _folder(self, version: str) -> Path:
        with self._engine.connect() as connection:
            folder = connection.scalar(select(model_versions.c.checkpoint).where(model_versions.c.version == version))
        if folder is None:
            raise UnknownVersionError(f"version {version} is not registered")
        return Path(folder)

    def _load(self, folder: Path) -> Checkpoint:
        return load_checkpoint(folder, self._device, self._settings.family_modules)

    def _lineage(self, job: ClaimedJob, gathered: Gathered) -> dict[str, Any]:
        settings = self._settings.gather
        return {
            "base_version": job.spec["base_version"],
            "code": lineage.code(),
            "store": settings.store.where,
            "original": None if settings.replay is None else settings.replay.where,
            "test": None if settings.test is None else settings.test.where,
            "fit": asdict(self._settings.fit),
            "processes": self._team.size,
            **gathered.facts(),
        }

    def _saver(self, job: ClaimedJob, gathered: Gathered) -> Saver:
        said = [job.spec["base_version"], asdict(self._settings.fit), lineage.data_digest(gathered.used)]
        identity = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        states = States(self._settings.checkpoints, job.job_id, job.attempt)
        taken_up = states.newest(identity)
        started = time.monotonic() - (0.0 if taken_up is None else float(taken_up.facts["seconds"]))
        if taken_up is not None:
            _log.info("job %d: taken up at step %d", job.job_id, int(taken_up.tensors["at"]))
        return Saver(states, identity, self._settings.save_every, taken_up, lambda: time.monotonic() - started)

    def _told(self, gathered: Gathered, fitted: FitResult, saver: Saver) -> dict[str, Any]:
        left_out = [each for each in gathered.used if each.reason is not None]
        return {
            "left_out": dict(gathered.left_out),
            "left_out_rows": {each.row.request_id: each.reason for each in left_out[:NAMED]},
            "seconds": round(fitted.seconds, 1),
            "steps": fitted.steps,
            "resumed_at": saver.step,
            "ended": fitted.ended,
            "fit": asdict(self._settings.fit),
        }

    def _fit(
        self,
        champion: Checkpoint,
        examples: Sequence[LabelledExample],
        saver: Saver,
        told: _Told | None,
        should_stop: Callable[[], bool],
    ) -> tuple[nn.Module, FitResult]:
        model = copy.deepcopy(champion.model)
        fitted = fit(
            model,
            champion.preprocessor,
            examples,
            self._settings.fit,
            team=self._team,
            before=saver.before,
            after=saver.after,
            progress=None if told is None else told.step,
            should_stop=should_stop,
            spent=saver.spent,
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
            jobs.hold(connection, job)
            registry.register(connection, candidate.card, Baseline.load(candidate.folder), job.model, job_id=job.job_id)


@dataclass(slots=True)
class _Told:
    """Turns the fit's steps into progress facts, with the time at which it is expected to end."""

    progress: Callable[..., None]
    settings: FitSettings
    tracker: JobTracker
    first: tuple[int, float] | None = field(default=None)

    def step(self, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = (step, now)
        facts: dict[str, Any] = {"step": step, "steps": steps, "loss": round(loss, 4)}
        if made := step - self.first[0]:
            elapsed = now - self.first[1]
            left = min((steps - step) * elapsed / made, max(0.0, self.settings.deadline_s - elapsed))
            facts["eta"] = (datetime.now(UTC) + timedelta(seconds=left)).isoformat(timespec="seconds")
        self.progress(**facts)
        self.tracker.step(step, loss)


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

"""What MLflow is told of retrain jobs: a run for each, however many attempts it takes, and the version that it made.

The database remains the truth: MLflow that is away, broken or missing costs its own record and nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, update

from inference import jobs
from inference.jobs import ClaimedJob, LeaseLostError
from inference.mlflow_settings import MlflowSettings
from inference.training.fit_settings import FitSettings
from inference.training.mlflow_run import FINISHED, MlflowRun, TrackingError, imported, shown
from migrations.schema.monitoring import jobs as table

_log = logging.getLogger(__name__)

VERSION, FOLDER, JOB = "fusionwatch.version", "fusionwatch.checkpoint", "fusionwatch.job"
FILES = "checkpoint"


class JobTracker:
    """Is told of one job and writes nothing down."""

    def begin(self, job: ClaimedJob, settings: FitSettings, lineage: Mapping[str, Any]) -> None:
        """The rows are known, and training begins or goes on."""

    def step(self, step: int, loss: float) -> None:
        """So many steps are made; `loss` is that of the last."""

    def finish(self, result: Mapping[str, Any], version: str, folder: Path) -> None:
        """The candidate is registered, and measured."""

    def end(self, status: str) -> None:
        """The attempt ended, in MLflow's words; after `finish` nothing changes."""


class MlflowJobs(JobTracker):
    """Writes jobs to MLflow, one at a time."""

    def __init__(self, engine: Engine, settings: MlflowSettings, every: int) -> None:
        """Imports MLflow. The curve has a point where states are saved, `every` so many steps.

        Raises TrackingError where MLflow is not installed.
        """
        self._mlflow = imported("unset FUSIONWATCH_MLFLOW_URI")
        self._engine = engine
        self._settings = settings
        self._every = every
        self._run: MlflowRun | None = None
        self._job: ClaimedJob | None = None
        self._seen = 0
        self._losses: list[float] = []

    def begin(self, job: ClaimedJob, settings: FitSettings, lineage: Mapping[str, Any]) -> None:
        """Go on with the run that an earlier attempt began, or begin one and keep its id with the job."""
        self._run, self._job, self._seen, self._losses = None, job, 0, []
        try:
            run = MlflowRun(self._mlflow, self._settings.uri, self._tell)
            kept = self._kept(job)
            seen = None if kept is None else run.take_up(kept, "loss")
            if seen is None:
                facts = {"job": job.job_id, "model": job.model, "fit": asdict(settings), "data": dict(lineage)}
                name = f"{job.model} job {job.job_id}"
                self._keep(job, run.begin(self._settings.experiment, name, facts, self._settings.files))
            self._run, self._seen = run, seen or 0
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001  # MLflow's stores raise what they like; the job matters more
            place = shown(self._settings.uri)
            self._tell(f"not tracked: MLflow at {place}: {str(error).replace(self._settings.uri, place)}")

    def step(self, step: int, loss: float) -> None:
        """Points of the curve: the mean loss since the last; what was written before a kill is not written twice."""
        self._losses.append(loss)
        if step % self._every:
            return
        if self._run is not None and step > self._seen:
            self._run.measure({"loss": sum(self._losses) / len(self._losses)}, step)
        self._losses = []

    def finish(self, result: Mapping[str, Any], version: str, folder: Path) -> None:
        """Both models' figures, the result, the checkpoint's files, and the version in the registry."""
        run, job = self._run, self._job
        if run is None or job is None:
            return
        run.measure(figures(result), int(result["training"]["steps"]))
        run.write(lambda number: run.client.log_text(number, json.dumps(result, indent=1, default=str), "result.json"))
        run.write(
            lambda number: register(run.client, self._settings, job.model, version, folder, number, job_id=job.job_id)
        )
        self.end(FINISHED)

    def end(self, status: str) -> None:
        """Say how it ended; one that another attempt will take up is KILLED until then."""
        if self._run is not None:
            self._run.end(status)
            self._run = None

    def _kept(self, job: ClaimedJob) -> str | None:
        with self._engine.connect() as connection:
            kept = connection.scalar(select(table.c.tracking).where(table.c.job_id == job.job_id))
        mine = kept is not None and kept.get("uri") == shown(self._settings.uri)
        return str(kept["run_id"]) if mine and kept is not None else None

    def _keep(self, job: ClaimedJob, run_id: str) -> None:
        told = {"uri": shown(self._settings.uri), "run_id": run_id}
        with self._engine.begin() as connection:
            jobs.hold(connection, job)
            connection.execute(update(table).where(table.c.job_id == job.job_id).values(tracking=told))

    def _tell(self, text: str) -> None:
        _log.warning("job %d: %s", self._job.job_id if self._job else 0, text)


def figures(result: Mapping[str, Any]) -> dict[str, float]:
    """What the gate compares, by names that MLflow takes; what was not measured is left out."""
    found: dict[str, float] = {"training_seconds": result["training"]["seconds"]}
    for name in ("champion", "candidate"):
        for key in ("accuracy", "ece", "latency_ms"):
            if (value := result[name].get(key)) is not None:
                found[f"{name}_{key}"] = float(value)
        if (value := result.get("test", {}).get(name, {}).get("accuracy")) is not None:
            found[f"{name}_test_accuracy"] = float(value)
    return found


def register(
    client: Any,
    settings: MlflowSettings,
    model: str,
    version: str,
    folder: Path,
    run_id: str,
    *,
    job_id: int | None,
) -> str:
    """Register a version under the model's name, with its files in the run; its number in MLflow. Safe to run again.

    Weights go along only where the settings say so; a tag names the folder where workers find them.
    """
    if (number := known(client, model, version)) is not None:
        return number
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and (settings.weights or path.suffix == ".json"):
            client.log_artifact(run_id, str(path), FILES)
    client.set_tag(run_id, VERSION, version)
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    source = f"{client.get_run(run_id).info.artifact_uri}/{FILES}"
    tags = {VERSION: version, FOLDER: str(folder), **({} if job_id is None else {JOB: str(job_id)})}
    return str(client.create_model_version(model, source, run_id, tags=tags).version)


def known(client: Any, model: str, version: str) -> str | None:
    """The number in MLflow of a registered version, None where it has none."""
    found = client.search_model_versions(f"name = '{model}' and tags.`{VERSION}` = '{version}'")
    return str(found[0].version) if found else None


def tracker(engine: Engine, settings: MlflowSettings | None, every: int) -> JobTracker:
    """Who jobs are written down for: nobody without settings, nor where MLflow cannot be imported, which is told."""
    if settings is None:
        return JobTracker()
    try:
        return MlflowJobs(engine, settings, every)
    except TrackingError as error:
        _log.warning("retrain jobs are not tracked: %s", error)
        return JobTracker()

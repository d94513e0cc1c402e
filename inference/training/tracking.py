"""Who a training run is written down for: nobody, or MLflow, on this machine's disk or on a server."""

from __future__ import annotations

import importlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from inference.training.config import TrainConfig
from inference.training.keep import PAGE, REPORT, OutputFolder
from inference.training.watch import Look

FINISHED, STOPPED, FAILED, RUNNING = "FINISHED", "KILLED", "FAILED", "RUNNING"
"""MLflow's words for how a run is; one that was stopped goes on by the same command."""
STORE, FILES = "mlflow.db", "mlflow-files"
LONGEST = 500
"""Characters of a parameter's value that every MLflow server takes."""


class TrackingError(Exception):
    """MLflow was asked for and cannot be had; the text says why."""


class Tracker:
    """Is told of a run and writes nothing down."""

    def begin(self, config: TrainConfig, folder: OutputFolder) -> None:
        """A run begins, or goes on."""

    def look(self, look: Look) -> None:
        """The validation rows were looked at."""

    def finish(self, report: Mapping[str, Any]) -> None:
        """All that the run leaves is in its folder."""

    def end(self, status: str) -> None:
        """The run ended, in MLflow's words."""


UNTRACKED = Tracker()


@contextmanager
def followed(tracker: Tracker, config: TrainConfig, folder: OutputFolder) -> Iterator[None]:
    """Tell the tracker that the run begins, and where something goes wrong, that it failed."""
    tracker.begin(config, folder)
    try:
        yield
    except BaseException:
        tracker.end(FAILED)
        raise


class MlflowTracker(Tracker):
    """Writes runs to MLflow. What fails on the way costs the tracking, never the training."""

    def __init__(self, uri: str | None, tell: Callable[[str], None]) -> None:
        """`uri` as MLflow's clients take it; None: a SQLite file beside each output folder. Imports MLflow.

        Raises TrackingError where MLflow is not installed.
        """
        # no word to anybody else, and no minutes of waiting for a server that has gone
        for name, value in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")):
            os.environ.setdefault(name, value)
        try:
            # by name: it is an extra, takes seconds to import, and the type checker need not read all of it
            self._mlflow: Any = importlib.import_module("mlflow")
        except ImportError as error:
            raise TrackingError(
                f"MLflow cannot be imported ({error}): install fusionwatch[training], or set tracking.mlflow to off"
            ) from error
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._uri = uri
        self._tell = tell
        self._client: Any = None
        self._run: str | None = None
        self._folder: OutputFolder | None = None
        self._seen = 0

    def begin(self, config: TrainConfig, folder: OutputFolder) -> None:
        """Go on with the run that the folder names, or begin one.

        Raises TrackingError where the store cannot be used and the configuration asks for it.
        """
        self._folder, self._seen = folder, 0
        uri = self._uri or f"sqlite:///{(folder.path.parent / STORE).resolve()}"
        try:
            self._client = self._mlflow.MlflowClient(uri)
            self._run = self._taken_up(uri) or self._begun(uri, config)
        except Exception as error:
            told = f"MLflow at {_shown(uri)} cannot be used: {str(error).replace(uri, _shown(uri))}"
            self._run = None
            if config.tracking.mlflow == "on":
                raise TrackingError(told) from error
            self._tell(f"not tracked: {told}")

    def look(self, look: Look) -> None:
        """Points of the curves; what was written before the run was killed is not written twice."""
        if look.step > self._seen:
            points = {
                "loss": look.loss,
                "validation_loss": look.validation_loss,
                "validation_accuracy": look.validation_accuracy,
                "epoch": look.epoch,
            }
            self._write(lambda run: self._measure(run, points, look.step))

    def finish(self, report: Mapping[str, Any]) -> None:
        """The report's figures, and files: report, page, confusion matrix, and what says which checkpoint it is."""
        self._write(lambda run: self._finish(run, report))
        self.end(FINISHED)

    def end(self, status: str) -> None:
        """Say how it ended."""
        self._write(lambda run: self._client.set_terminated(run, status))
        self._run = None

    def _taken_up(self, uri: str) -> str | None:
        """The run that an earlier process began, where this store still has it."""
        assert self._folder is not None
        kept = self._folder.tracked()
        if kept is None or kept["uri"] != uri:
            return None
        try:
            self._client.update_run(kept["run_id"], RUNNING)
        except self._mlflow.MlflowException:
            return None
        history = self._client.get_metric_history(kept["run_id"], "validation_loss")
        self._seen = max((each.step for each in history), default=0)
        return str(kept["run_id"])

    def _begun(self, uri: str, config: TrainConfig) -> str:
        assert self._folder is not None
        name = config.tracking.experiment
        found = self._client.get_experiment_by_name(name)
        if found is None:
            place = {} if self._uri else {"artifact_location": (self._folder.path.parent / FILES).resolve().as_uri()}
            experiment = self._client.create_experiment(name, **place)
        else:
            experiment = found.experiment_id
        run = self._client.create_run(experiment, run_name=self._folder.path.name).info.run_id
        entity = self._mlflow.entities.Param
        content = config.model_dump(mode="json", exclude={"tracking"})
        parameters = [entity(key, value[:LONGEST]) for key, value in flattened(content).items()]
        self._client.log_batch(run, params=parameters)
        self._folder.track({"uri": uri, "run_id": run})
        return str(run)

    def _finish(self, run: str, report: Mapping[str, Any]) -> None:
        assert self._folder is not None
        self._measure(run, summary(report), report["training"]["steps"])
        for key in ("version", "family"):
            self._client.set_tag(run, f"fusionwatch.{key}", report[key])
        confusion = {"labels": report["labels"], "rows are true": report["fused"]["confusion"]}
        self._client.log_text(run, json.dumps(confusion, ensure_ascii=False), "confusion.json")
        for name in (REPORT, PAGE):
            self._client.log_artifact(run, str(self._folder.path / name))
        for path in sorted(self._folder.checkpoint.glob("*.json")):
            self._client.log_artifact(run, str(path), "checkpoint")

    def _measure(self, run: str, values: Mapping[str, float], step: int) -> None:
        entity, now = self._mlflow.entities.Metric, int(time.time() * 1000)
        self._client.log_batch(run, metrics=[entity(name, value, now, step) for name, value in values.items()])

    def _write(self, write: Callable[[str], None]) -> None:
        if self._run is None:
            return
        try:
            write(self._run)
        except Exception as error:  # noqa: BLE001  # MLflow's stores raise what they like; the training matters more
            self._run = None
            self._tell(f"no longer tracked: MLflow: {error}")


def summary(report: Mapping[str, Any]) -> dict[str, float]:
    """The report's figures by the name under which they are compared; those that are not defined are left out."""
    fused = report["fused"]
    found = {
        "accuracy": fused["accuracy"]["share"],
        "macro_f1": fused["macro_f1"],
        "calibration_error": fused["ece"]["value"],
        "temperature": report["temperature"],
        "parameters": report["parameters"],
        "seconds": report["seconds"],
        **{f"accuracy, {name}": share["share"] for name, share in report["ablation"].items()},
    }
    # MLflow's names of metrics may hold no comma
    return {name.replace(",", "").replace(" ", "_"): float(x) for name, x in found.items() if x is not None}


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Every value of nested objects as text, by its dotted name."""
    found: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found


def _shown(uri: str) -> str:
    """Without what may stand before an @: a user and a password."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"

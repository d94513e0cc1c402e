"""Who a training run is written down for: nobody, or MLflow, on this machine's disk or on a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from inference.training.config import TrainConfig
from inference.training.keep import PAGE, REPORT, OutputFolder
from inference.training.mlflow_run import FAILED, FINISHED, MlflowRun, TrackingError, imported, shown
from inference.training.watch import Look

STORE, FILES = "mlflow.db", "mlflow-files"


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
        self._mlflow = imported("set tracking.mlflow to off")
        self._uri = uri
        self._tell = tell
        self._run: MlflowRun | None = None
        self._folder: OutputFolder | None = None
        self._seen = 0

    def begin(self, config: TrainConfig, folder: OutputFolder) -> None:
        """Go on with the run that the folder names, or begin one.

        Raises TrackingError where the store cannot be used and the configuration asks for it.
        """
        self._folder, self._seen = folder, 0
        uri = self._uri or f"sqlite:///{(folder.path.parent / STORE).resolve()}"
        try:
            self._run = MlflowRun(self._mlflow, uri, self._tell)
            if not self._taken_up(self._run, uri, folder):
                self._begin(self._run, uri, config, folder)
        except Exception as error:
            told = f"MLflow at {shown(uri)} cannot be used: {str(error).replace(uri, shown(uri))}"
            self._run = None
            if config.tracking.mlflow == "on":
                raise TrackingError(told) from error
            self._tell(f"not tracked: {told}")

    def look(self, look: Look) -> None:
        """Points of the curves; what was written before the run was killed is not written twice."""
        if self._run is not None and look.step > self._seen:
            points = {
                "loss": look.loss,
                "validation_loss": look.validation_loss,
                "validation_accuracy": look.validation_accuracy,
                "epoch": look.epoch,
            }
            self._run.measure(points, look.step)

    def finish(self, report: Mapping[str, Any]) -> None:
        """The report's figures, and files: report, page, confusion matrix, and what says which checkpoint it is."""
        if self._run is not None:
            self._run.measure(summary(report), report["training"]["steps"])
            self._run.write(lambda run: self._finish(run, report))
        self.end(FINISHED)

    def end(self, status: str) -> None:
        """Say how it ended."""
        if self._run is not None:
            self._run.end(status)

    def _taken_up(self, run: MlflowRun, uri: str, folder: OutputFolder) -> bool:
        """Whether there is a run that an earlier process began, in this very store."""
        kept = folder.tracked()
        if kept is None or kept["uri"] != uri:
            return False
        seen = run.take_up(kept["run_id"], "validation_loss")
        self._seen = seen or 0
        return seen is not None

    def _begin(self, run: MlflowRun, uri: str, config: TrainConfig, folder: OutputFolder) -> None:
        content = config.model_dump(mode="json", exclude={"tracking"})
        files = None if self._uri else folder.path.parent / FILES
        run_id = run.begin(config.tracking.experiment, folder.path.name, content, files)
        folder.track({"uri": uri, "run_id": run_id})

    def _finish(self, run: str, report: Mapping[str, Any]) -> None:
        assert self._folder is not None
        assert self._run is not None
        client = self._run.client
        for key in ("version", "family"):
            client.set_tag(run, f"fusionwatch.{key}", report[key])
        confusion = {"labels": report["labels"], "rows are true": report["fused"]["confusion"]}
        client.log_text(run, json.dumps(confusion, ensure_ascii=False), "confusion.json")
        for name in (REPORT, PAGE):
            client.log_artifact(run, str(self._folder.path / name))
        for path in sorted(self._folder.checkpoint.glob("*.json")):
            client.log_artifact(run, str(path), "checkpoint")


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

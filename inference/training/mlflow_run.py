"""One run in MLflow, begun or taken up, and what is written into it. What fails on the way costs the tracking alone."""

from __future__ import annotations

import importlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FINISHED, STOPPED, FAILED, RUNNING = "FINISHED", "KILLED", "FAILED", "RUNNING"
"""MLflow's words for how a run is; one that was stopped goes on by the same command."""
LONGEST = 500
"""Characters of a parameter's value that every MLflow server takes."""
Tell = Callable[[str], None]


class TrackingError(Exception):
    """MLflow was asked for and cannot be had; the text says why."""


def imported(otherwise: str) -> Any:
    """The package `mlflow`. Raises TrackingError where it is not installed, with what to do `otherwise`."""
    # no word to anybody else, and no minutes of waiting for a server that has gone
    for name, value in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")):
        os.environ.setdefault(name, value)
    try:
        # by name: it is an extra, takes seconds to import, and the type checker need not read all of it
        mlflow: Any = importlib.import_module("mlflow")
    except ImportError as error:
        raise TrackingError(
            f"MLflow cannot be imported ({error}): install fusionwatch[training], or {otherwise}"
        ) from error
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return mlflow


class MlflowRun:
    """Writes one run; after the first failure it is silent, having told of it once."""

    def __init__(self, mlflow: Any, uri: str, tell: Tell) -> None:
        """`uri` as MLflow's clients take it."""
        self._entities = mlflow.entities
        self._error: type[Exception] = mlflow.MlflowException
        self._uri = uri
        self._tell = tell
        self.client: Any = mlflow.MlflowClient(uri, uri)
        self.run_id: str | None = None

    def take_up(self, run_id: str, metric: str) -> int | None:
        """Go on with a run; the last step of a metric's curve in it, None where this store does not have the run."""
        try:
            self.client.update_run(run_id, RUNNING)
        except self._error:
            return None
        self.run_id = run_id
        history = self.client.get_metric_history(run_id, metric)
        return max((each.step for each in history), default=0)

    def begin(self, experiment: str, name: str, parameters: Mapping[str, Any], files: Path | None = None) -> str:
        """Begin a run; its id. `files` is where a new experiment keeps files, by default where the store does."""
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            place = {} if files is None else {"artifact_location": files.resolve().as_uri()}
            number = self.client.create_experiment(experiment, **place)
        else:
            number = found.experiment_id
        run_id = str(self.client.create_run(number, run_name=name).info.run_id)
        given = [self._entities.Param(key, value[:LONGEST]) for key, value in flattened(parameters).items()]
        self.client.log_batch(run_id, params=given)
        self.run_id = run_id
        return run_id

    def measure(self, values: Mapping[str, float], step: int) -> None:
        """Points of curves."""
        now, metric = int(time.time() * 1000), self._entities.Metric
        self.write(
            lambda run: self.client.log_batch(run, metrics=[metric(key, x, now, step) for key, x in values.items()])
        )

    def write(self, write: Callable[[str], object]) -> None:
        """Write something of the run, where it is still tracked."""
        if self.run_id is None:
            return
        try:
            write(self.run_id)
        except Exception as error:  # noqa: BLE001  # MLflow's stores raise what they like; the training matters more
            self.run_id = None
            self._tell(f"no longer tracked: MLflow: {str(error).replace(self._uri, shown(self._uri))}")

    def end(self, status: str) -> None:
        """Say how it ended."""
        self.write(lambda run: self.client.set_terminated(run, status))
        self.run_id = None


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Every value of nested objects as text, by its dotted name."""
    found: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found


def shown(uri: str) -> str:
    """Without what may stand before an @: a user and a password."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"

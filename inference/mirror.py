"""MLflow's registry kept in step with the database: the aliases `champion` and `challenger` of a model's versions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, select

from inference import registry, rollouts
from inference.job_tracking import known, register
from inference.mlflow_settings import MlflowSettings
from inference.training.mlflow_run import FINISHED, MlflowRun, TrackingError, imported, shown
from migrations.schema.monitoring import jobs, model_versions

_log = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True, slots=True)
class _Held:
    """A version that has an alias: its folder, the job that trained it, and that job's run in MLflow."""

    version: str
    folder: Path
    job_id: int | None
    tracking: Mapping[str, Any] | None


class Mirror:
    """Sets what differs, and only that; safe to run again, from several processes, and after MLflow was away."""

    def __init__(self, engine: Engine, model: str, settings: MlflowSettings) -> None:
        """Imports MLflow. Raises TrackingError where it is not installed."""
        self._mlflow = imported("unset FUSIONWATCH_MLFLOW_URI")
        self._engine = engine
        self._model = model
        self._settings = settings
        self._done: dict[str, str | None] = {}

    def run(self) -> bool:
        """Whether MLflow's aliases are those of the database now; where MLflow fails, a later call does it."""
        with self._engine.connect() as connection:
            wanted = {CHAMPION: self._champion(connection), CHALLENGER: self._challenger(connection)}
        versions = {alias: held.version if held else None for alias, held in wanted.items()}
        if versions == self._done:
            return True
        try:
            self._set(wanted)
        except Exception as error:  # noqa: BLE001  # MLflow's stores raise what they like; nothing else waits for it
            place = shown(self._settings.uri)
            text = str(error).replace(self._settings.uri, place)
            _log.warning("MLflow at %s is not in step with the database: %s", place, text)
            return False
        self._done = versions
        return True

    def _set(self, wanted: Mapping[str, _Held | None]) -> None:
        run = MlflowRun(self._mlflow, self._settings.uri, _log.warning)
        numbers = {alias: self._number(run, held) for alias, held in wanted.items() if held is not None}
        found = run.client.search_registered_models(f"name = '{self._model}'")
        present = dict(found[0].aliases) if found else {}
        for alias, number in numbers.items():
            if str(present.get(alias)) != number:
                run.client.set_registered_model_alias(self._model, alias, number)
        for alias in (CHAMPION, CHALLENGER):
            if alias in present and alias not in numbers:
                run.client.delete_registered_model_alias(self._model, alias)

    def _number(self, run: MlflowRun, held: _Held) -> str:
        """The version's number in MLflow; one that no tracked job trained gets a run of its own."""
        if (number := known(run.client, self._model, held.version)) is not None:
            return number
        tracked = held.tracking if held.tracking and held.tracking.get("uri") == shown(self._settings.uri) else None
        facts = {"model": self._model, "version": held.version}
        run_id = (
            str(tracked["run_id"])
            if tracked is not None
            else run.begin(self._settings.experiment, held.version, facts, self._settings.files)
        )
        number = register(
            run.client, self._settings, self._model, held.version, held.folder, run_id, job_id=held.job_id
        )
        if tracked is None:
            run.end(FINISHED)
        return number

    def _champion(self, connection: Connection) -> _Held | None:
        found = registry.champion(connection, self._model)
        return None if found is None else self._held(connection, found.version)

    def _challenger(self, connection: Connection) -> _Held | None:
        found = rollouts.current(connection, self._model)
        return None if found is None else self._held(connection, found.version)

    def _held(self, connection: Connection, version: str) -> _Held:
        query = select(model_versions.c.checkpoint, model_versions.c.job_id, jobs.c.tracking)
        joined = query.outerjoin(jobs, jobs.c.job_id == model_versions.c.job_id)
        row = connection.execute(joined.where(model_versions.c.version == version)).one()
        return _Held(version, Path(row.checkpoint), row.job_id, row.tracking)


def mirror(engine: Engine, model: str, settings: MlflowSettings | None) -> Mirror | None:
    """The mirror, None without settings or where MLflow cannot be imported, which is told."""
    if settings is None:
        return None
    try:
        return Mirror(engine, model, settings)
    except TrackingError as error:
        _log.warning("MLflow does not follow the database: %s", error)
        return None

"""MLflow follows the database: versions and aliases, by itself, and again after it was away; it never stops a job."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import pytest
from sqlalchemy import Engine, Executable, insert, select, text

from inference.job_tracking import MlflowJobs, tracker
from inference.jobs import claim
from inference.mirror import Mirror, mirror
from inference.mlflow_settings import MlflowSettings
from inference.training.fit_settings import FitSettings
from migrations.connect import connect
from migrations.schema.monitoring import jobs, model_aliases, model_versions
from migrations.schema.rollouts import rollouts

if TYPE_CHECKING:  # seconds to import, which every process that collects tests would spend
    from mlflow import MlflowClient

NOW = datetime(2026, 1, 8, tzinfo=UTC)
MEASURED = {"accuracy": 0.9, "ece": 0.02, "latency_ms": None}
RESULT = {"training": {"steps": 4, "seconds": 1.5}, "champion": MEASURED, "candidate": {**MEASURED, "accuracy": 0.95}}


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = connect(database, application="test")
    yield made
    made.dispose()


def execute(engine: Engine, statement: Executable) -> None:
    with engine.begin() as connection:
        connection.execute(statement)


def tracked(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.scalar(select(jobs.c.tracking))


def register(engine: Engine, folder: Path, version: str, job_id: int | None = None) -> Path:
    """A version with a checkpoint of two files."""
    place = folder / version
    place.mkdir()
    (place / "manifest.json").write_text(f'{{"version": "{version}"}}')
    (place / "model.safetensors").write_bytes(b"weights")
    row = {"version": version, "model": "fusion", "family": "test", "checkpoint": str(place), "job_id": job_id}
    lists: dict[str, Any] = {"class_names": [], "modalities": [], "fingerprints": {}, "manifest_sha256": "00"}
    execute(engine, insert(model_versions).values(**row, **lists))
    return place


def challenge(engine: Engine, version: str) -> None:
    place = {"stage": "shadow", "percent": 10, "step_since": NOW, "checked_until": NOW, "started_at": NOW}
    execute(engine, insert(rollouts).values(model="fusion", version=version, champion="v1", **place))


def aliases(client: MlflowClient) -> dict[str, str]:
    """By alias, the version's own name."""
    found = client.get_registered_model("fusion").aliases
    return {alias: client.get_model_version("fusion", str(n)).tags["fusionwatch.version"] for alias, n in found.items()}


def test_a_job_is_a_run_and_a_version_and_aliases_follow_the_database(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = MlflowSettings(f"sqlite:///{tmp_path}/mlflow.db", "jobs", files=tmp_path / "files")
    register(engine, tmp_path, "v1")
    execute(engine, insert(model_aliases).values(model="fusion", alias="champion", version="v1", updated_at=NOW))
    away = Mirror(engine, "fusion", MlflowSettings("postgres://user:secret@nowhere/db"))
    assert not away.run()
    assert "MLflow at postgres://nowhere/db is not in step" in caplog.text
    assert "secret" not in caplog.text

    spec = {"base_version": "v1"}
    execute(engine, insert(jobs).values(model="fusion", state="queued", spec=spec, deadline=NOW + timedelta(hours=1)))
    told = MlflowJobs(engine, settings, every=2)
    for attempt, steps in ((1, range(1, 4)), (2, range(3, 5))):
        with engine.begin() as connection:
            job = claim(connection, "fusion", "t", NOW)
            assert job is not None
        told.begin(job, FitSettings(steps=4), {"base_version": "v1", "rows": {"log": 7}})
        for step in steps:
            told.step(step, float(step))
        if attempt == 1:
            told.end("KILLED")
            execute(engine, text("UPDATE jobs SET state = 'queued'"))
    folder = register(engine, tmp_path, "v2", job_id=1)
    told.finish(RESULT, "v2", folder)
    told.end("FAILED")  # nothing, after the end

    from mlflow import MlflowClient

    client = MlflowClient(settings.uri, settings.uri)
    experiment = client.get_experiment_by_name("jobs")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("fusion job 1", "FINISHED")
    assert run.data.params["fit.steps"] == "4"
    assert run.data.params["data.rows.log"] == "7"
    assert run.data.metrics["candidate_accuracy"] == 0.95
    curve = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]
    assert curve == [(2, 1.5), (4, 3.5)], "each point once, though two attempts made step 3"
    assert tracked(engine) == {"uri": settings.uri, "run_id": run.info.run_id}

    follow = Mirror(engine, "fusion", settings)
    challenge(engine, "v2")
    assert follow.run()
    assert aliases(client) == {"champion": "v1", "challenger": "v2"}
    assert Mirror(engine, "fusion", settings).run(), "another process finds all done"
    (version,) = client.search_model_versions("name = 'fusion' and tags.`fusionwatch.version` = 'v2'")
    assert (version.run_id, version.tags["fusionwatch.checkpoint"]) == (run.info.run_id, str(folder))
    files = Path(urlparse(str(version.source)).path)
    assert [path.name for path in files.iterdir()] == ["manifest.json"], "weights stay where they are"
    assert len(client.search_model_versions("name = 'fusion'")) == 2

    execute(engine, text("UPDATE rollouts SET outcome = 'promoted'"))
    execute(engine, text("UPDATE model_aliases SET version = 'v2'"))
    assert follow.run()
    assert aliases(client) == {"champion": "v2"}
    execute(engine, text("UPDATE model_aliases SET version = 'v1'"))
    assert follow.run()
    assert aliases(client) == {"champion": "v1"}, "a rollback too"


def test_mlflow_that_is_away_or_missing_is_told_and_costs_a_job_nothing(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = MlflowSettings("postgres://user:secret@nowhere/db")
    execute(engine, insert(jobs).values(model="fusion", state="queued", spec={}, deadline=NOW + timedelta(hours=1)))
    with engine.begin() as connection:
        job = claim(connection, "fusion", "t", NOW)
    assert job is not None
    told = tracker(engine, settings, every=1)
    told.begin(job, FitSettings(), {})
    told.step(1, 0.5)
    told.finish(RESULT, "v2", tmp_path)
    assert "not tracked: MLflow at postgres://nowhere/db" in caplog.text
    assert "secret" not in caplog.text
    assert tracked(engine) is None
    monkeypatch.setitem(sys.modules, "mlflow", None)
    caplog.set_level(logging.WARNING)
    tracker(engine, settings, every=1).begin(job, FitSettings(), {})
    assert mirror(engine, "fusion", settings) is None
    assert caplog.text.count("install fusionwatch[training], or unset FUSIONWATCH_MLFLOW_URI") == 2
    assert mirror(engine, "fusion", None) is None

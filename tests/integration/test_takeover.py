"""A trainer killed at half of its training: another one takes the job over and ends where nobody was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import Engine, insert, select, update

from demo.cameras import NEW_CAMERA
from demo.deployment import CHECKPOINT
from demo.examples import example_stream
from inference import registry
from inference.models.card import WEIGHTS
from inference.models.checkpoint import load_checkpoint
from inference.trainer_settings import TrainerSettings
from inference.trainer_wiring import TrainerProgram
from inference.training.store import LocalStore
from migrations.connect import connect
from migrations.schema.lineage import job_rows
from migrations.schema.monitoring import jobs
from migrations.schema.prediction_log import labels
from monitor import loop_wiring
from monitor.telemetry import Metrics
from tests.support.monitored import StoryClock, settings
from tests.support.retraining import KEY, log

ROWS, STEPS, SAVED, KILLED = 310, 8, 3, 5


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = connect(database, application="test")
    yield engine
    engine.dispose()


def environment(database: str, folder: Path) -> dict[str, str]:
    """A trainer's settings."""
    given = {
        "database_url": database,
        "hmac_key": KEY.decode(),
        "hmac_key_id": "k1",
        "checkpoints": str(folder / "out"),
        "training_store": str(folder / "raw"),
        "fit_steps": str(STEPS),
        "fit_batch_size": "16",
        "fit_save_every": str(SAVED),
        "device": "cpu",
        "trainer_id": "trainer",  # both by one name: the attempt tells them apart
    }
    return {f"FUSIONWATCH_{name.upper()}": value for name, value in given.items()}


def ask(engine: Engine, version: str) -> int:
    """Queue a job."""
    now = datetime.now(UTC)
    spec = {"base_version": version, "labels_until": (now + timedelta(minutes=1)).isoformat(), "max_rows": 1000}
    values = {"model": "fusion", "state": "queued", "spec": spec, "deadline": now + timedelta(hours=1)}
    with engine.begin() as connection:
        return int(connection.execute(insert(jobs).values(**values).returning(jobs.c.job_id)).scalar_one())


def row(engine: Engine, job_id: int) -> Any:
    with engine.connect() as connection:
        return connection.execute(select(jobs).where(jobs.c.job_id == job_id)).one()


def used(engine: Engine, job_id: int) -> list[tuple[Any, ...]]:
    query = select(job_rows.c.request_id, job_rows.c.label, job_rows.c.part).order_by(job_rows.c.place)
    with engine.connect() as connection:
        return [tuple(each) for each in connection.execute(query.where(job_rows.c.job_id == job_id))]


def test_a_killed_trainers_job_is_taken_over_where_it_was_and_ends_the_same(
    engine: Engine, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("raw", "out"):
        (tmp_path / name).mkdir()
    log(engine, LocalStore(tmp_path / "raw"), list(islice(example_stream(11, NEW_CAMERA), ROWS)))
    champion = load_checkpoint(CHECKPOINT, torch.device("cpu"))
    with engine.begin() as connection:
        registry.register(connection, champion.card, None, "fusion")
    for name, value in environment(database, tmp_path).items():
        monkeypatch.setenv(name, value)
    trainer = TrainerProgram(TrainerSettings.from_environment())

    undisturbed = ask(engine, champion.version)
    assert trainer.run(undisturbed)
    assert row(engine, undisturbed).state == "trained"
    with engine.begin() as connection:
        connection.execute(update(jobs).values(state="rejected"))

    disturbed = ask(engine, champion.version)
    command = [sys.executable, "-m", "tests.support.killed_trainer", str(disturbed), str(KILLED)]
    killed = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = row(engine, disturbed)
    assert (left.state, left.claimed_by, left.attempts, left.result) == ("running", "trainer", 1, None)
    (state,) = (tmp_path / "out" / f"job-{disturbed}-state").glob("*/state.safetensors")
    assert int(load_file(state)["at"]) == SAVED

    clock = StoryClock(left.lease_until + timedelta(seconds=1))
    loop_wiring.jobs(settings(database), engine, Metrics(), clock).run()
    assert (row(engine, disturbed).state, row(engine, disturbed).claimed_by) == ("queued", None)
    with engine.begin() as connection:  # what is labelled otherwise meanwhile is for the next job
        connection.execute(update(labels).values(label=champion.labels[0]))
    assert trainer.run(disturbed)

    done, expected = row(engine, disturbed), row(engine, undisturbed)
    assert (done.state, done.attempts) == ("trained", 2)
    assert done.result["training"]["resumed_at"] == SAVED
    assert done.progress["resumed_at"] == SAVED
    assert used(engine, disturbed) == used(engine, undisturbed)
    assert done.result["paired"] == expected.result["paired"]
    weights = [
        load_file(tmp_path / "out" / f"job-{job_id}-attempt-{attempt}" / WEIGHTS)
        for job_id, attempt in ((undisturbed, 1), (disturbed, 2))
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not list((tmp_path / "out").glob("*-state"))
    assert not trainer.run(disturbed), "it no longer waits"

"""What jobs leave in the folder of checkpoints goes when they are over for long enough, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from inference.sweep import Sweep
from inference.trainer_wiring import Seldom
from migrations.connect import connect
from migrations.schema.monitoring import jobs, model_versions

NOW = datetime(2026, 1, 8, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = connect(database, application="test")
    yield made
    made.dispose()


def job(engine: Engine, state: str, ended: datetime | None, model: str = "fusion") -> int:
    values = {"model": model, "state": state, "spec": {}, "deadline": NOW, "finished_at": ended}
    with engine.begin() as connection:
        return int(connection.execute(insert(jobs).values(values).returning(jobs.c.job_id)).scalar_one())


def register(engine: Engine, folder: Path) -> None:
    row = {"version": "v2", "model": "fusion", "family": "test", "checkpoint": str(folder), "manifest_sha256": "00"}
    with engine.begin() as connection:
        connection.execute(insert(model_versions).values(**row, class_names=[], modalities=[], fingerprints={}))


def test_only_what_ended_jobs_left_and_nobody_registered_is_dropped_after_its_time(
    engine: Engine, tmp_path: Path
) -> None:
    long_ago, lately = NOW - WEEK - timedelta(seconds=1), NOW - WEEK + timedelta(seconds=1)
    failed, cancelled = job(engine, "failed", long_ago), job(engine, "cancelled", long_ago)
    recent, running = job(engine, "failed", lately), job(engine, "running", None)
    another = job(engine, "failed", long_ago, model="another")
    kept = [f"job-{each}-state/attempt-1" for each in (recent, running, another, 999)]
    kept += [f"job-{failed}-attempt-2", f"job-{running}-attempt-1", f"job-{failed}-notes"]
    dropped = [f"job-{failed}-state/attempt-1", f"job-{cancelled}-state/attempt-2", f"job-{failed}-attempt-1"]
    for name in (*kept, *dropped):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "state.safetensors").write_bytes(b"weights")
    register(engine, tmp_path / f"job-{failed}-attempt-2")
    sweep = Sweep(engine, tmp_path, "fusion", WEEK)
    assert {path.name for path in sweep.run(NOW)} == {name.split("/")[0] for name in dropped}
    assert all((tmp_path / name / "state.safetensors").exists() for name in kept)
    assert not any((tmp_path / name).exists() for name in dropped)
    assert sweep.run(NOW) == []


def test_what_is_done_seldom_waits_for_its_time_though_it_failed() -> None:
    at, calls = [0.0], []

    def fails() -> None:
        calls.append(at[0])
        raise OSError("away")

    seldom = Seldom(fails, 10, lambda: at[0])
    for at[0] in (0.0, 9.0, 10.0, 11.0):
        if at[0] in (0.0, 10.0):
            with pytest.raises(OSError, match="away"):
                seldom()
        else:
            seldom()
    assert calls == [0.0, 10.0]

"""A worker whose model has all cores but one to itself."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from tests.support.worker import WorkerProcess, running

ALL = sorted(os.sched_getaffinity(0))


def test_the_model_runs_on_its_cores_and_what_polls_and_answers_on_the_others(
    database: str, broker: str, tmp_path: Path
) -> None:
    asked = WorkerProcess("cores", database, broker, tmp_path / "log", {"MODEL_CORES": str(len(ALL) - 1)})
    with running(asked) as worker:
        assert worker.process is not None
        parent = psutil.Process(worker.process.pid)
        (model,) = parent.children()
        assert affinities(model) == {tuple(ALL[1:] or ALL)}
        assert sorted(os.sched_getaffinity(parent.pid)) == ALL[:1], "the thread that polls, and those it started"


def affinities(process: psutil.Process) -> set[tuple[int, ...]]:
    """The cores of each of a process's threads."""
    return {tuple(sorted(os.sched_getaffinity(thread.id))) for thread in process.threads()}

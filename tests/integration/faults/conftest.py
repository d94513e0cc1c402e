"""Workers that something is done to. Their model passes everything through; most have it in this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from demo import servers
from inference.models import pass_through
from tests.support.constant_model import Models, constant_models
from tests.support.worker import WorkerProcess

Subject = tuple[WorkerProcess, Engine]
NewSubject = Callable[..., Subject]
_numbers = itertools.count()
_logs: dict[str, Path] = {}  # of the workers of the module that runs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the workers had to say is part of the report of a test that failed."""
    report = yield
    if report.failed:
        for name, log in _logs.items():
            if log.exists():
                report.sections.append((f"log of {name}", log.read_text()[-4000:]))
    return report


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "pass-through"
    pass_through.save(folder, {"yes": 0.5, "no": 0.5})
    return folder


@pytest.fixture
def models() -> Iterator[Models]:
    """Workers that are started in this process have no model process, and can be held in mid-pass."""
    with constant_models() as models:
        yield models


@pytest.fixture(scope="module")
def new_subject(
    postgres_server: servers.Database, broker: str, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewSubject]:
    """`new_subject(name, **settings)`: a worker, not started, with a database of its own, and an engine for that."""
    with ExitStack() as stack:

        def make(name: str, **settings: str) -> Subject:
            database = f"faults_{next(_numbers)}"
            url = postgres_server.create(database, template="template")
            stack.callback(postgres_server.drop, database)
            engine = create_engine(url)
            stack.callback(engine.dispose)
            log = _logs[name] = tmp_path_factory.mktemp(name) / "log"
            return WorkerProcess(name, url, broker, log, {"CHECKPOINT": str(checkpoint), **settings}), engine

        stack.callback(_logs.clear)
        yield make

"""Real servers for every test that needs one: started once a run, a fresh database for each test."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import servers

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Database]:
    """An embedded PostgreSQL with a migrated template database.

    Not in pytest's own folder: every new run of pytest closes that one to other users, and PostgreSQL, which must not
    be root, may be one.
    """
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder, servers.postgres(Path(folder)) as server:
        servers.migrate(server.create("template"))
        yield server


@pytest.fixture
def database(postgres_server: servers.Database) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    yield postgres_server.create(name, template="template")
    postgres_server.drop(name)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of an embedded Kafka-protocol broker; name topics and groups apart in each test."""
    log: Path = tmp_path_factory.mktemp("broker") / "broker.log"
    with servers.broker(log) as address:
        yield address

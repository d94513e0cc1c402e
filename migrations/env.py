"""Alembic's environment: which database, which tables, and what autogenerate must leave alone.

Migrations run beside programs at work. Each is a transaction of its own, so that what it locked is free before the
next one begins; each gives up a lock that it does not get in time, rather than queue every writer behind it. Run it
again then: what was done stays done. An index on a table that grows with traffic is made CONCURRENTLY, in Alembic's
`autocommit_block`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.sql.schema import SchemaItem

from migrations import grants
from migrations.connect import MINIMUM_REVISION
from migrations.schema import metadata
from migrations.schema.partitions import is_partition

# `alembic -x lock_timeout=1s` sets another.
LOCK_TIMEOUT = "5s"
_LOOK_SECONDS = 0.2
_LOCK = "hashtext('fusionwatch.migrations')"


def _include(item: SchemaItem, name: str | None, kind: str, _reflected: bool, _other: SchemaItem | None) -> bool:
    table = name if kind == "table" else getattr(getattr(item, "table", None), "name", None)
    return not (table and is_partition(table))


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Of migrations started at once the second waits for the first, and then finds nothing to do.

    It asks again and again: a session that waited in the server would hold a snapshot, which an index that is made
    concurrently waits for.
    """
    while not connection.scalar(text(f"SELECT pg_try_advisory_lock({_LOCK})")):
        connection.commit()
        time.sleep(_LOOK_SECONDS)
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text(f"SELECT pg_advisory_unlock({_LOCK})"))
        connection.commit()


def _run(connection: Connection) -> None:
    given = context.get_x_argument(as_dictionary=True)
    timeout = given.get("lock_timeout", LOCK_TIMEOUT)
    with _alone(connection):
        connection.execute(text("SELECT set_config('lock_timeout', :timeout, false)"), {"timeout": timeout})
        connection.commit()
        context.configure(
            connection=connection, target_metadata=metadata, include_object=_include, transaction_per_migration=True
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()  # of what looked only
        with connection.begin():
            current = context.get_context().get_current_revision()
        if current is not None and current >= MINIMUM_REVISION:  # older revisions lack what grants name
            grants.apply(connection, frozenset(metadata.tables))
        connection.execute(text("RESET lock_timeout"))


def main() -> None:
    """Run the migrations on the connection handed over in the configuration, or on FUSIONWATCH_DATABASE_URL."""
    if isinstance(given := context.config.attributes.get("connection"), Connection):
        _run(given)
        return
    url = os.environ.get("FUSIONWATCH_DATABASE_URL")
    if not url:
        raise SystemExit("FUSIONWATCH_DATABASE_URL is not set: give it as postgresql+psycopg2://user@host/database")
    engine = create_engine(url)
    with engine.connect() as connection:
        _run(connection)
    engine.dispose()


main()

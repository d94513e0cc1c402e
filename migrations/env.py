"""Alembic's environment: which database, which tables, and what autogenerate must leave alone."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.sql.schema import SchemaItem

from migrations.schema import metadata
from migrations.schema.partitions import is_partition

# A migration waits this long for a lock, then gives up rather than queue every writer behind it.
LOCK_TIMEOUT = "5s"


def _include(item: SchemaItem, name: str | None, kind: str, _reflected: bool, _other: SchemaItem | None) -> bool:
    table = name if kind == "table" else getattr(getattr(item, "table", None), "name", None)
    return not (table and is_partition(table))


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, include_object=_include)
    with context.begin_transaction():
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        # Two migrations started at once: the second waits for the first and then finds nothing to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('fusionwatch.migrations'))"))
        context.run_migrations()


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

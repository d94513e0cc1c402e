"""Connecting to the database that both programs share, and refusing one that is too old."""

from __future__ import annotations

from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

MINIMUM_REVISION = "0020"
# libpq's seconds and milliseconds: a silent connection is asked after 30 s, then three times in 30 s.
_VANISHED = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}


# What libpq says, in part, of connections that TLS or pg_hba.conf decides about, and what is to be done.
_URL = "FUSIONWATCH_DATABASE_URL"
_REFUSALS = {
    "certificate verify failed": "its certificate is not signed by the authority in sslrootcert: name there the PEM "
    "file of the one that signed it",
    "does not match host name": f"its certificate names another host: give in {_URL} the host that it names",
    "root certificate file": f"sslmode=verify-full needs the authority's file: add sslrootcert=/path/ca.pem to {_URL}",
    "no encryption": f"it takes no plain connection: add sslmode=verify-full&sslrootcert=/path/ca.pem to {_URL}",
    "server does not support SSL": "it speaks no TLS: switch ssl on there, or trust the network with sslmode=disable",
}


class SchemaTooOldError(Exception):
    """The database's schema lacks the revision this program needs."""


def connect(url: str, *, application: str, pool_size: int = 4) -> Engine:
    """An engine whose sessions work in UTC and are named `application` in pg_stat_activity.

    Connections are checked before use, so that a restarted server costs one retry and not one error; one whose server
    has vanished without a word fails after a minute instead of the two hours of most systems.
    """
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={
            "application_name": application,
            "connect_timeout": 10,
            "options": "-c timezone=UTC",
            **_VANISHED,
        },
    )


def require_revision(engine: Engine, minimum: str = MINIMUM_REVISION) -> str:
    """The schema's revision. Raises SchemaTooOldError, with the command to run, where `minimum` is not applied.

    Revisions are zero-padded numbers in one line, so their order is that of their names; a newer schema is accepted.
    """
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current is None or current < minimum:
        found = f"is at {current}" if current else "has no fusionwatch schema"
        raise SchemaTooOldError(f"the database {found}; this program needs {minimum}: run `alembic upgrade head`")
    return current


def refused(error: SQLAlchemyError) -> str | None:
    """What keeps a connection from being made, and what to do, where TLS or pg_hba.conf does; else None."""
    said = str(getattr(error, "orig", None) or "")
    found = (f"the database, or TLS to it: {part}: {advice}" for part, advice in _REFUSALS.items() if part in said)
    return next(found, None)


def unusable(error: SQLAlchemyError) -> str:
    """Why a program cannot work with the database, without what the error holds besides."""
    return refused(error) or f"{type(error).__name__}: is the database up?"


def unreachable(engine: Engine) -> str | None:
    """Why the database cannot be used now, for a readiness probe; None where it can."""
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        return f"the database cannot be reached: {type(error).__name__}"
    return None

"""One leader among several monitors, and what keeps a former one from writing.

Whoever holds a session-level advisory lock of PostgreSQL leads. The server ends a session that has been silent for a
lease, so that a process which is stopped, or whose machine is paused, does not lead on. It may wake in the middle of
its work and know nothing of it: so each leader has an epoch, a number that every new one raises, and every transaction
of a fenced engine begins by proving that its epoch is still the newest, and keeps it so until it ends.

Source: fencing tokens, Kleppmann (2017), Designing Data-Intensive Applications, chapter 8.
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from monitor.errors import FencedError

_log = logging.getLogger(__name__)

# The first of the lock's two numbers; the second is the model's name, hashed by the server.
_LOCK_CLASS = 0x66777463  # "fwtc"
LEASE = timedelta(seconds=30)
# A transaction that waits for its own process so long has lost it: longer than any channel or detector takes.
LONGEST_PAUSE = timedelta(minutes=2)

_RAISE = text(
    "INSERT INTO leaders (model, epoch, since) VALUES (:model, 1, now()) "
    "ON CONFLICT (model) DO UPDATE SET epoch = leaders.epoch + 1, since = excluded.since RETURNING epoch"
)
# FOR SHARE: a new leader waits until what was proven is committed; other transactions of this one do not.
_PROVE = "SELECT epoch FROM leaders WHERE model = %s FOR SHARE"


class Leadership:
    """The lock, on a connection of its own. A lost connection is lost leadership: the server has freed the lock."""

    def __init__(
        self, engine: Engine, model: str, *, lease: timedelta = LEASE, longest_pause: timedelta = LONGEST_PAUSE
    ) -> None:
        """Leads no longer once the server has not heard of it for `lease`."""
        self._engine = engine
        self._model = model
        self._lease = lease
        self._longest_pause = longest_pause
        self._connection: Connection | None = None
        self._epoch: int | None = None
        self._trouble: str | None = None
        self._told = threading.local()  # the epoch in which a thread was last told that it leads
        self._mutex = threading.Lock()

    @property
    def lease(self) -> timedelta:
        """How often the server must hear of it."""
        return self._lease

    def hold(self) -> bool:
        """Whether this process leads, as the server sees it now; takes the lock where it is free. Never raises.

        Transactions that this thread begins on a fenced engine are of the epoch that holds now.
        """
        with self._mutex:
            leads = self._attempt(take=True)
            self._told.epoch = self._epoch if leads else None
            return leads

    def renew(self) -> None:
        """Let the server hear of a process that leads. Never raises."""
        with self._mutex:
            self._attempt(take=False)

    def release(self) -> None:
        """Give leadership up, so that another monitor takes over at once."""
        with self._mutex:
            self._drop()

    def fence(self, engine: Engine) -> Engine:
        """The same engine, for what only a leader may do: each transaction raises FencedError once another leads."""
        fenced = engine.execution_options()
        event.listen(fenced, "begin", self._prove)
        return fenced

    def _attempt(self, *, take: bool) -> bool:
        try:
            leads = self._still_held() or (take and self._try_take())
        except SQLAlchemyError as error:
            # every task asks before it runs: what goes on is told once
            if (trouble := type(error).__name__) != self._trouble:
                _log.warning("leadership is not held: %s", trouble)
            self._trouble = trouble
            self._drop()
            return False
        if leads or take:  # the database answered: who neither leads nor takes does not ask it
            self._trouble = None
        return leads

    def _still_held(self) -> bool:
        if self._connection is None:
            return False
        self._connection.execute(text("SELECT 1"))
        return True

    def _try_take(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # kept for as long as we lead: it must not be one of the pool's few
        try:
            connection.execute(text(f"SET idle_session_timeout = {_milliseconds(self._lease)}"))
            taken = connection.scalar(
                text("SELECT pg_try_advisory_lock(:class, hashtext(:model))"),
                {"class": _LOCK_CLASS, "model": self._model},
            )
            if not taken:
                connection.close()
                return False
            self._epoch = connection.scalar(_RAISE, {"model": self._model})
        except SQLAlchemyError:
            connection.invalidate()
            connection.close()
            raise
        self._connection = connection
        _log.info("this monitor leads for model %s, in epoch %d", self._model, self._epoch)
        return True

    def _prove(self, connection: Connection) -> None:
        """On the driver's own cursor, since SQLAlchemy's transaction has not begun yet."""
        pause = _milliseconds(self._longest_pause)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = {pause}")
            cursor.execute(_PROVE, (self._model,))
            newest = cursor.fetchone()
        except connection.dialect.loaded_dbapi.Error as error:
            raise OperationalError(_PROVE, None, error) from error
        finally:
            cursor.close()
        mine = getattr(self._told, "epoch", None)
        if mine is None or newest is None or newest[0] != mine:
            raise FencedError(f"another monitor leads for model {self._model!r}: this one led in epoch {mine}")

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._epoch = None
        if connection is not None:
            connection.invalidate()
            connection.close()


def _milliseconds(length: timedelta) -> int:
    return int(length.total_seconds() * 1000)

"""One leader among several monitors: whoever holds a session-level advisory lock of PostgreSQL."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

_log = logging.getLogger(__name__)

# The first of the lock's two numbers; the second is the model's name, hashed by the server.
_LOCK_CLASS = 0x66777463  # "fwtc"


class Leadership:
    """The lock, on a connection of its own. A lost connection is lost leadership: the server has freed the lock."""

    def __init__(self, engine: Engine, model: str) -> None:
        self._engine = engine
        self._model = model
        self._connection: Connection | None = None
        self._mutex = threading.Lock()

    def hold(self) -> bool:
        """Whether this process leads, as the server sees it now; takes the lock where it is free. Never raises."""
        with self._mutex:
            try:
                return self._still_held() or self._try_take()
            except SQLAlchemyError as error:
                _log.warning("leadership is not held: %s", type(error).__name__)
                self._drop()
                return False

    def release(self) -> None:
        """Give leadership up, so that another monitor takes over at once."""
        with self._mutex:
            self._drop()

    def _still_held(self) -> bool:
        if self._connection is None:
            return False
        self._connection.execute(text("SELECT 1"))
        return True

    def _try_take(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # kept for as long as we lead: it must not be one of the pool's few
        taken = connection.scalar(
            text("SELECT pg_try_advisory_lock(:class, hashtext(:model))"),
            {"class": _LOCK_CLASS, "model": self._model},
        )
        if not taken:
            connection.close()
            return False
        self._connection = connection
        _log.info("this monitor leads for model %s", self._model)
        return True

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

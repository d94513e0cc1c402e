"""Writes outcomes: offsets, log rows, dead letters, summaries, samples, all in one transaction or not at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DataError, IntegrityError

from inference import log, offsets, pgcopy
from inference.errors import Code, Refusal
from inference.offsets import Move
from inference.outcome import DeadLetter, Outcome, Predicted
from inference.record import Partition, Record
from inference.rows import modality_columns, prediction_columns
from migrations.schema import partitions
from migrations.schema.embedding_samples import embedding_samples
from migrations.schema.metadata import TIMESTAMP
from migrations.schema.prediction_log import dead_letters, modality_log, prediction_log, request_ids
from migrations.schema.summaries import summaries
from migrations.upsert import replacing, upsert_all

_log = logging.getLogger(__name__)
_CHECK_VIOLATION = "23514"  # PostgreSQL, Appendix A: also where a row has no partition

# Built once: building a statement costs more than running it.
_CLAIM = (
    upsert(request_ids)
    .from_select(
        ["request_id", "logged_at"],
        select(func.unnest(bindparam("ids", type_=ARRAY(Text))), bindparam("now", type_=TIMESTAMP)),
    )
    .on_conflict_do_nothing()
    .returning(request_ids.c.request_id)
)
_SUMMARIES = replacing(summaries)
_SAMPLES = upsert(embedding_samples).on_conflict_do_nothing()
_DEAD_LETTERS = upsert(dead_letters).on_conflict_do_nothing()


class Preview(Protocol):
    """Summaries with a batch added, not yet taken over."""

    def rows(self, now: datetime) -> list[dict[str, Any]]:
        """Rows of the `summaries` table, the sum so far."""
        ...

    def embeddings(self) -> list[dict[str, Any]]:
        """Rows of the `embedding_samples` table."""
        ...


class Summariser(Protocol):
    """Adds rows up per time slot; nothing counts until `commit`."""

    def preview(self, rows: Sequence[Predicted]) -> Preview:
        """What the summaries would be with these rows, which are in the order of their offsets."""
        ...

    def commit(self, preview: Any) -> None:
        """Take a preview over, once its rows are committed."""
        ...

    def forget(self, topic: str, partition: int) -> None:
        """Drop a partition's sums: another worker continues it, or this one from a later offset."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a transaction may take over one statement, over one lock, and between statements.

    Beyond them it is rolled back, to be tried again: a lock that a frozen worker holds must not hold up another one,
    nor must this one's if it freezes. `synchronous_commit` stays as the server has it: one flush for a thousand rows
    costs next to nothing, and a commit that a crash may take back would leave a living worker ahead of its offsets.
    """

    statement: float = 30.0
    lock: float = 10.0
    idle: float = 60.0

    @property
    def sql(self) -> str:
        """Statements that set them for the transaction."""
        return (
            f"SET LOCAL statement_timeout = {self.statement * 1000:.0f};"
            f"SET LOCAL lock_timeout = {self.lock * 1000:.0f};"
            f"SET LOCAL idle_in_transaction_session_timeout = {self.idle * 1000:.0f}"
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction wrote.

    `duplicates` counts requests whose id was logged before. `refused` are the dead letters that the database itself
    made, for rows that it could not hold: their requests were answered.
    """

    logged: int
    duplicates: int
    dead_lettered: int
    seconds: float
    refused: tuple[DeadLetter, ...] = ()


Send = Callable[[Sequence[DeadLetter]], None]


def _nowhere(_letters: Sequence[DeadLetter]) -> None:
    """For a writer whose dead letters nobody reads."""


class Recorder:
    """Writes for one consumer group; not safe for several threads."""

    def __init__(
        self,
        engine: Engine,
        group: str,
        key_id: str,
        summariser: Summariser,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        limits: Limits = Limits(),
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """`between` is called between the steps of a write, each of which takes a few milliseconds."""
        pgcopy.enable(engine)
        self._engine = engine
        self._group = group
        self._key_id = key_id
        self._summariser = summariser
        self._clock = clock
        self._limits = limits
        self._between = between

    def write(self, outcomes: Sequence[Outcome], moves: Mapping[Partition, Move], send: Send = _nowhere) -> Written:
        """Write everything, or nothing.

        Raises StaleWriteError where another worker has moved a partition; sqlalchemy.exc.DBAPIError where the
        database cannot take it now (try the same again). A row that no database could hold becomes a dead letter, which
        `send` gets before the transaction that moves past it: a crash in between sends it again. What `send` raises
        leaves nothing written. Where the day has no partition yet, that is logged with what to run.
        """
        try:
            return self._write_storable(outcomes, moves, send)
        except IntegrityError as error:
            _explain(error)
            raise

    def forget(self, partition: Partition) -> None:
        """Start new summaries for a partition: its offset was moved by someone else."""
        self._summariser.forget(partition.topic, partition.number)

    def _write_storable(self, outcomes: Sequence[Outcome], moves: Mapping[Partition, Move], send: Send) -> Written:
        refused: tuple[DeadLetter, ...] = ()
        while True:
            try:
                return self._write(outcomes, moves, refused)
            except DataError:
                found = self._not_storable(_predicted(outcomes))
                if not found:
                    raise
                send(tuple(found.values()))
                outcomes = [found.get(outcome.record, outcome) for outcome in outcomes]
                refused += tuple(found.values())

    def _write(
        self, outcomes: Sequence[Outcome], moves: Mapping[Partition, Move], refused: tuple[DeadLetter, ...]
    ) -> Written:
        self._between()
        started = time.perf_counter()
        now = self._clock()
        predicted = _predicted(outcomes)
        letters = [outcome for outcome in outcomes if isinstance(outcome, DeadLetter)]
        with self._engine.begin() as connection:
            connection.exec_driver_sql(self._limits.sql)
            offsets.advance(connection, self._group, moves, now)
            self._between()
            fresh = _claim(connection, predicted, now)
            self._copy(connection, fresh, now)
            insert_dead_letters(connection, letters)
            self._between()
            preview = self._summariser.preview(fresh)
            self._between()
            upsert_all(connection, _SUMMARIES, preview.rows(now))
            upsert_all(connection, _SAMPLES, preview.embeddings())
        self._summariser.commit(preview)
        duplicates = len(predicted) - len(fresh)
        return Written(len(fresh), duplicates, len(letters), time.perf_counter() - started, refused)

    def _copy(self, connection: Connection, rows: Sequence[Predicted], now: datetime) -> None:
        (logged_at,) = pgcopy.moments([now])
        self._between()
        pgcopy.copy(connection, prediction_log, prediction_columns(rows, logged_at))
        self._between()
        pgcopy.copy(connection, modality_log, modality_columns(rows, logged_at, self._key_id))

    def _not_storable(self, rows: Sequence[Predicted]) -> dict[Record, DeadLetter]:
        """Dead letters for the rows that the database refuses, by record; of equal ids only the first is tried."""
        with self._engine.connect() as connection:  # never committed
            connection.exec_driver_sql(self._limits.sql)
            refused = self._refused(connection, list(_first(rows).values()), self._clock())
        refusal = Refusal(Code.NOT_STORABLE, "the database cannot hold one of its values")
        return {row.record: DeadLetter(row.record, refusal) for row in refused}

    def _refused(self, connection: Connection, rows: Sequence[Predicted], now: datetime) -> list[Predicted]:
        """Those that cannot be written, found by halving: of n rows with one bad, by 2 log2 n attempts."""
        attempt = connection.begin_nested()
        try:
            self._copy(connection, rows, now)
            return []
        except DataError:
            if len(rows) == 1:
                return list(rows)
        finally:
            attempt.rollback()
        half = len(rows) // 2
        return [*self._refused(connection, rows[:half], now), *self._refused(connection, rows[half:], now)]


def _predicted(outcomes: Sequence[Outcome]) -> list[Predicted]:
    return [outcome for outcome in outcomes if isinstance(outcome, Predicted)]


def _first(rows: Sequence[Predicted]) -> dict[str, Predicted]:
    """Of equal request ids the first row, by id."""
    first: dict[str, Predicted] = {}
    for row in rows:
        first.setdefault(row.request.request_id, row)
    return first


def _claim(connection: Connection, rows: Sequence[Predicted], now: datetime) -> list[Predicted]:
    """The rows whose request id nobody had logged; of equal ids in one batch the first."""
    first = _first(rows)
    if not first:
        return []
    # sorted, so that two workers with the same ids wait for one another and never in a circle
    won = set(connection.scalars(_CLAIM, {"ids": sorted(first), "now": now}))
    return [row for request_id, row in first.items() if request_id in won]


def _explain(error: IntegrityError) -> None:
    """Say what to do about a missing partition: PostgreSQL calls it a failed check, of a table and of no constraint."""
    found: Any = error.orig
    if found is None or found.pgcode != _CHECK_VIOLATION or found.diag.constraint_name is not None:
        return
    if found.diag.table_name in partitions.TABLES:
        _log.error(
            "today has no partition: run `fusionwatch-monitor run`, which makes those of the coming week; "
            "nothing is written and nothing lost until then",
            extra=log.fields(table=found.diag.table_name),
        )


def insert_dead_letters(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Insert the rows of `dead_letters`; one that is there stays as it is."""
    if letters:
        values = [
            {
                "topic": letter.record.topic,
                "partition": letter.record.partition,
                "offset": letter.record.offset,
                "error_code": letter.refusal.code,
                "error_detail": letter.refusal.detail,
            }
            for letter in letters
        ]
        upsert_all(connection, _DEAD_LETTERS, values)

"""Writes outcomes: next offsets, log rows, dead letters and summaries, all in one transaction or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, insert
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DataError

from inference import offsets
from inference.errors import Code, Refusal
from inference.offsets import Move
from inference.outcome import DeadLetter, Outcome, Predicted
from inference.record import Partition
from migrations.schema.prediction_log import dead_letters, modality_log, prediction_log, request_ids
from migrations.schema.summaries import summaries


class Preview(Protocol):
    """Summaries with a batch added, not yet taken over."""

    def rows(self, now: datetime) -> list[dict[str, Any]]:
        """Rows of the `summaries` table, the sum so far."""
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
class Written:
    """What a transaction wrote. `duplicates` counts requests whose id was logged before."""

    logged: int
    duplicates: int
    dead_lettered: int
    seconds: float


class Recorder:
    """Writes for one consumer group."""

    def __init__(
        self,
        engine: Engine,
        group: str,
        key_id: str,
        summariser: Summariser,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._group = group
        self._key_id = key_id
        self._summariser = summariser
        self._clock = clock

    def write(self, outcomes: Sequence[Outcome], moves: Mapping[Partition, Move]) -> Written:
        """Write everything, or nothing.

        Raises StaleWriteError where another worker has moved a partition; sqlalchemy.exc.DBAPIError where the
        database cannot take it now (try the same again). A row that no database could hold becomes a dead letter.
        """
        try:
            return self._write(outcomes, moves)
        except DataError:
            return self._write(self._storable(outcomes), moves)

    def forget(self, partition: Partition) -> None:
        """Start new summaries for a partition: its offset was moved by someone else."""
        self._summariser.forget(partition.topic, partition.number)

    def _write(self, outcomes: Sequence[Outcome], moves: Mapping[Partition, Move]) -> Written:
        started = time.perf_counter()
        now = self._clock()
        predicted = [outcome for outcome in outcomes if isinstance(outcome, Predicted)]
        letters = [outcome for outcome in outcomes if isinstance(outcome, DeadLetter)]
        with self._engine.begin() as connection:
            offsets.advance(connection, self._group, moves, now)
            fresh = _claim(connection, predicted, now)
            self._insert_rows(connection, fresh, now)
            insert_dead_letters(connection, letters)
            preview = self._summariser.preview(fresh)
            _upsert_summaries(connection, preview.rows(now))
        self._summariser.commit(preview)
        duplicates = len(predicted) - len(fresh)
        return Written(len(fresh), duplicates, len(letters), time.perf_counter() - started)

    def _insert_rows(self, connection: Connection, rows: Sequence[Predicted], now: datetime) -> None:
        if not rows:
            return
        connection.execute(insert(prediction_log), [prediction_row(row, now) for row in rows])
        parts = [part for row in rows for part in modality_rows(row, now, self._key_id)]
        connection.execute(insert(modality_log), parts)

    def _storable(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes with each row that the database refuses replaced by a dead letter."""
        return [outcome if self._fits(outcome) else _not_storable(outcome) for outcome in outcomes]

    def _fits(self, outcome: Outcome) -> bool:
        if isinstance(outcome, DeadLetter):
            return True
        with self._engine.connect() as connection:  # never committed
            try:
                self._insert_rows(connection, [outcome], self._clock())
            except DataError:
                return False
        return True


def _not_storable(outcome: Outcome) -> DeadLetter:
    return DeadLetter(outcome.record, Refusal(Code.NOT_STORABLE, "the database cannot hold one of its values"))


def _claim(connection: Connection, rows: Sequence[Predicted], now: datetime) -> list[Predicted]:
    """The rows whose request id nobody had logged; of equal ids in one batch the first."""
    first: dict[str, Predicted] = {}
    for row in rows:
        first.setdefault(row.request.request_id, row)
    if not first:
        return []
    # sorted, so that two workers with the same ids wait for one another and never in a circle
    values = [{"request_id": request_id, "logged_at": now} for request_id in sorted(first)]
    statement = upsert(request_ids).on_conflict_do_nothing().returning(request_ids.c.request_id)
    won = set(connection.scalars(statement, values))
    return [row for request_id, row in first.items() if request_id in won]


def prediction_row(row: Predicted, now: datetime) -> dict[str, Any]:
    """The row of `prediction_log`."""
    prediction, request, record = row.prediction, row.request, row.record
    probabilities = prediction.probabilities
    return {
        "request_id": request.request_id,
        "logged_at": now,
        "produced_at": request.produced_at,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "schema_version": request.schema_version,
        "model_version": prediction.model_version,
        "route": prediction.route,
        "status": "ok" if prediction.error is None else "error",
        "error_code": prediction.error,
        "prediction": prediction.label,
        "confidence": prediction.confidence,
        "probabilities": None if probabilities is None else [float(p) for p in probabilities],
        "agreement": prediction.agreement,
        "degraded": row.degraded,
        "quarantine": row.quarantine,
        "queue_ms": row.queue_ms,
        "preprocess_ms": row.preprocess_ms,
        "encode_ms": prediction.encode_ms,
        "fuse_ms": prediction.fuse_ms,
        "total_ms": row.total_ms,
        "correlation_id": request.correlation_id,
        "source": request.source,
    }


def modality_rows(row: Predicted, now: datetime, key_id: str) -> list[dict[str, Any]]:
    """The rows of `modality_log`, one for each modality that was expected or sent."""
    return [
        {
            "request_id": row.request.request_id,
            "modality": name,
            "logged_at": now,
            "status": part.status,
            "reason": part.reason,
            "digest": part.digest,
            "key_id": None if part.digest is None else part.key_id or key_id,
            "captured_at": part.captured_at,
            "quality": dict(part.quality),
        }
        for name, part in sorted(row.modalities.items())
    ]


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
        connection.execute(upsert(dead_letters).on_conflict_do_nothing(), values)


def _upsert_summaries(connection: Connection, records: list[dict[str, Any]]) -> None:
    if not records:
        return
    statement = upsert(summaries)
    keys = [column.name for column in summaries.primary_key]
    changed = {column.name: statement.excluded[column.name] for column in summaries.c if column.name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), records)

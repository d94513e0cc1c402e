"""Labels: read from their topic, checked, and kept so that the newest of a request wins, known or not (yet)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kafka.errors import KafkaError
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import SQLAlchemyError

from inference import log, offsets, wire
from inference.answers import dead_letter
from inference.consumer import GroupConsumer
from inference.errors import Code, Refusal, StaleWriteError
from inference.hashing import Hasher
from inference.observe import Observer
from inference.offsets import Move
from inference.outcome import DeadLetter
from inference.publisher import Publisher
from inference.record import Partition, Record
from inference.recorder import insert_dead_letters
from inference.retry import Stop, until_done
from inference.wire import RefusedError
from migrations.schema.prediction_log import labels as table

_log = logging.getLogger(__name__)
SOURCES = ("human_review", "ground_truth", "user")
MAX_LABEL_BYTES = 64_000
BATCH = 500
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Label:
    """What a request turned out to be, by whom (as a digest) and when."""

    request_id: str
    label: str
    labelled_at: datetime
    source: str
    verdict: str | None
    annotator_digest: bytes | None = field(repr=False)
    key_id: str | None


def parse(record: Record, hasher: Hasher) -> Label | Refusal:
    """A label message, or why it is none. Never raises, whatever the bytes."""
    try:
        message = wire.decode(record, MAX_LABEL_BYTES)
        wire.check_version(message)
        labelled_at = wire.timestamp(message.get("labelled_at"))
        if labelled_at is None:
            raise RefusedError(
                Code.LABELLED_AT_INVALID, "labelled_at must be an RFC 3339 time with its offset from UTC"
            )
        source = message.get("source")
        if source not in SOURCES:
            raise RefusedError(Code.FIELD_INVALID, f"source must be one of {', '.join(SOURCES)}")
        label = wire.short_text(message, "label")
        if not label:
            raise RefusedError(Code.FIELD_INVALID, "label must not be empty")
        annotator = wire.short_text(message, "annotator")
        return Label(
            request_id=wire.request_id(message),
            label=label,
            labelled_at=labelled_at,
            source=source,
            verdict=wire.short_text(message, "verdict"),
            annotator_digest=hasher.digest(annotator) if annotator else None,
            key_id=hasher.key_id if annotator else None,
        )
    except RefusedError as error:
        return error.refusal


def store(connection: Connection, labels: Sequence[Label], now: datetime) -> None:
    """Insert labels, or replace older ones: per request the newest `labelled_at` wins, whatever the order."""
    newest: dict[str, Label] = {}
    for label in labels:
        held = newest.get(label.request_id)
        if held is None or label.labelled_at >= held.labelled_at:
            newest[label.request_id] = label
    if not newest:
        return
    statement = upsert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name != "request_id"}
    statement = statement.on_conflict_do_update(
        index_elements=["request_id"], set_=changed, where=table.c.labelled_at <= statement.excluded.labelled_at
    )
    connection.execute(statement, [_row(newest[key], now) for key in sorted(newest)])


def _row(label: Label, now: datetime) -> dict[str, Any]:
    return {
        "request_id": label.request_id,
        "label": label.label,
        "labelled_at": label.labelled_at,
        "received_at": now,
        "source": label.source,
        "verdict": label.verdict,
        "annotator_digest": label.annotator_digest,
        "key_id": label.key_id,
    }


class FeedbackLoop:
    """Reads labels until it is asked to stop; bad ones are dead-lettered with a reason."""

    def __init__(
        self,
        *,
        consumer: GroupConsumer,
        read_offsets: Callable[[Iterable[Partition]], Mapping[Partition, int]],
        engine: Engine,
        group: str,
        hasher: Hasher,
        publisher: Publisher,
        dead_letter_topic: str,
        observer: Observer,
        stop: Stop,
    ) -> None:
        self._consumer = consumer
        self._read_offsets = read_offsets
        self._engine = engine
        self._group = group
        self._hasher = hasher
        self._publisher = publisher
        self._dead_letter_topic = dead_letter_topic
        self._observer = observer
        self._stop = stop

    def run(self) -> None:
        """Serve until a stop is requested."""
        try:
            while not self._stop.requested:
                self._step()
        finally:
            self._consumer.close()

    def _step(self) -> None:
        if self._consumer.unsynced:
            for gap in self._until_done(lambda: self._consumer.sync(self._read_offsets), "reading label offsets"):
                self._observer.gap(gap)
        try:
            records = self._consumer.poll(POLL_SECONDS, BATCH)
        except KafkaError as error:
            _log.warning("reading labels failed", extra=log.fields(error=type(error).__name__))
            self._stop.wait(1.0)
            return
        if records:
            self._handle(records)

    def _handle(self, records: list[Record]) -> None:
        moves = self._consumer.moves(records)
        labels, letters = [], []
        for record in records:
            parsed = parse(record, self._hasher)
            if isinstance(parsed, Refusal):
                letters.append(DeadLetter(record, parsed))
            else:
                labels.append(parsed)
        messages = [dead_letter(letter, self._dead_letter_topic) for letter in letters]
        self._until_done(lambda: self._publisher.send(messages), "sending dead letters")
        try:
            self._until_done(lambda: self._write(labels, letters, moves), "writing labels")
        except StaleWriteError:
            self._observer.stale()
            self._consumer.resync()
            return
        for letter in letters:
            self._observer.refused(letter)
        for label in labels:
            self._observer.label(label.source)
        self._consumer.moved(moves)

    def _write(self, labels: Sequence[Label], letters: Sequence[DeadLetter], moves: Mapping[Partition, Move]) -> None:
        now = datetime.now(UTC)
        with self._engine.begin() as connection:
            offsets.advance(connection, self._group, moves, now)
            store(connection, labels, now)
            insert_dead_letters(connection, letters)

    def _until_done(self, action: Callable[[], Any], name: str) -> Any:
        return until_done(
            action,
            name=name,
            on=(SQLAlchemyError, KafkaError),
            stop=self._stop,
            between=self._consumer.keep_alive,
            failed=self._observer.failed,
        )

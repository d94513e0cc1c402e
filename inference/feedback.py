"""Labels: read from their topic, checked, and kept so that one of each request wins, whatever the order they come in.

The newest `labelled_at` wins. Of equal times the better source does (ground truth, then human review, then user), then
the greater label, verdict and annotator, by their bytes, and sampling probability: an arbitrary rule, but one that
gives the same label in every order and however often a message is delivered. Labels of unknown requests are kept: the
request may come later.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Case, ColumnElement, Connection, Engine, case, func, insert, literal, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from inference import gaps, offsets, wire
from inference.answers import dead_letter
from inference.clock import ClockTolerance
from inference.consumer import GroupConsumer
from inference.errors import Code, Refusal
from inference.hashing import Hasher
from inference.intake import Intake
from inference.observe import Observer
from inference.offsets import Move, ReadOffsets
from inference.outcome import DeadLetter
from inference.publisher import Publisher
from inference.pulse import Pulse
from inference.record import Partition, Record
from inference.recorder import insert_dead_letters
from inference.retry import Stop
from inference.wire import RefusedError
from migrations.schema.monitoring import audit_log
from migrations.schema.prediction_log import labels as table
from migrations.upsert import upsert_all

SOURCES = ("user", "human_review", "ground_truth")  # the later, the more it is believed
MAX_LABEL_BYTES = 64_000
BATCH = 500
PACE_SECONDS = 0.2
# One request chosen with a smaller probability would stand for more answers than anyone counts.
SMALLEST_PROBABILITY = 1e-9


@dataclass(frozen=True, slots=True)
class Label:
    """What a request turned out to be, by whom (as a digest) and when.

    `sampling_probability` is that with which a queue chose the request to be labelled; None where it is not known.
    """

    request_id: str
    label: str
    labelled_at: datetime
    source: str
    verdict: str | None
    annotator_digest: bytes | None = field(repr=False)
    key_id: str | None
    sampling_probability: float | None = None

    @property
    def rank(self) -> tuple[Any, ...]:
        """Of one request's labels the one of the highest rank wins; `_rank` says the same in the database."""
        annotator = self.annotator_digest or b""
        chosen = self.sampling_probability or 0.0
        return self.labelled_at, SOURCES.index(self.source), self.label, self.verdict or "", annotator, chosen


def parse(record: Record, hasher: Hasher, tolerance: ClockTolerance = ClockTolerance()) -> Label | Refusal:
    """A label message, or why it is none. Never raises, whatever the bytes.

    A time further ahead than clocks may be apart is refused: no label to come could replace such a one.
    """
    try:
        message = wire.decode(record, MAX_LABEL_BYTES)
        wire.check_version(message)
        labelled_at = wire.timestamp(message.get("labelled_at"))
        if labelled_at is None:
            raise RefusedError(
                Code.LABELLED_AT_INVALID, "labelled_at must be an RFC 3339 time with its offset from UTC"
            )
        if tolerance.ahead(labelled_at, record.received_at):
            raise RefusedError(Code.LABELLED_IN_FUTURE, "labelled_at is in the future: is the labeller's clock right?")
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
            verdict=wire.short_text(message, "verdict") or None,
            annotator_digest=hasher.digest(annotator) if annotator else None,
            key_id=hasher.key_id if annotator else None,
            sampling_probability=_probability(message.get("sampling_probability")),
        )
    except RefusedError as error:
        return error.refusal


def _probability(value: object) -> float | None:
    """An optional probability, rounded as it is stored, so that equal labels compare equal."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not SMALLEST_PROBABILITY <= value <= 1:
        raise RefusedError(Code.FIELD_INVALID, "sampling_probability must be a number above 0 and at most 1")
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


def store(connection: Connection, labels: Sequence[Label], now: datetime) -> None:
    """Insert labels, or replace those of lower rank. What is there already, and what it outranks, changes nothing."""
    best: dict[str, Label] = {}
    for label in labels:
        held = best.get(label.request_id)
        if held is None or label.rank > held.rank:
            best[label.request_id] = label
    if not best:
        return
    statement = upsert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name != "request_id"}
    statement = statement.on_conflict_do_update(
        index_elements=["request_id"], set_=changed, where=_rank(table.c) < _rank(statement.excluded)
    )
    # sorted, so that two readers with labels of the same requests wait for one another and never in a circle
    upsert_all(connection, statement, [_row(best[key], now) for key in sorted(best)])


def told_by_people(labels: Sequence[Label]) -> dict[str, Any] | None:
    """What the audit log says of a batch: how many labels each annotator, a digest, sent; None where no person did."""
    people = [label for label in labels if label.source == "human_review"]
    if not people:
        return None
    named = Counter(label.annotator_digest.hex() for label in people if label.annotator_digest is not None)
    keys = sorted({label.key_id for label in people if label.key_id is not None})
    return {"labels": len(people), "annotators": dict(named), "key_ids": keys}


def _rank(columns: Any) -> ColumnElement[Any]:
    """`Label.rank` of a row; "C" compares text by its code points, as Python does."""
    source: Case[int] = case(*((columns.source == name, place) for place, name in enumerate(SOURCES)))
    verdict = func.coalesce(columns.verdict, "").collate("C")
    annotator = func.coalesce(columns.annotator_digest, literal(b""))
    chosen = func.coalesce(columns.sampling_probability, 0.0)
    return tuple_(columns.labelled_at, source, columns.label.collate("C"), verdict, annotator, chosen)


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
        "sampling_probability": label.sampling_probability,
    }


class FeedbackLoop:
    """Reads labels until it is asked to stop; bad ones are dead-lettered with a reason."""

    def __init__(
        self,
        *,
        consumer: GroupConsumer,
        read_offsets: ReadOffsets,
        engine: Engine,
        group: str,
        hasher: Hasher,
        publisher: Publisher,
        dead_letter_topic: str,
        observer: Observer,
        stop: Stop,
        pulse: Pulse,
        worker_id: str = "",
        tolerance: ClockTolerance = ClockTolerance(),
    ) -> None:
        """`tolerance` says how far the labellers' clocks may be ahead, by default five minutes."""
        self._engine = engine
        self._group = group
        self._hasher = hasher
        self._publisher = publisher
        self._dead_letter_topic = dead_letter_topic
        self._observer = observer
        self._tolerance = tolerance
        self._intake = Intake(
            consumer=consumer,
            read_offsets=read_offsets,
            record_gaps=gaps.recorder(engine, group, worker_id),
            name="label",
            handle=self._handle,
            observer=observer,
            stop=stop,
            pulse=pulse,
            batch=BATCH,
            pace_seconds=PACE_SECONDS,
        )

    def run(self) -> None:
        """Serve until a stop is requested."""
        self._intake.run()

    def _handle(self, records: list[Record], moves: Mapping[Partition, Move]) -> None:
        labels, letters = [], []
        for record in records:
            parsed = parse(record, self._hasher, self._tolerance)
            if isinstance(parsed, Refusal):
                letters.append(DeadLetter(record, parsed))
            else:
                labels.append(parsed)
        messages = [dead_letter(letter, self._dead_letter_topic) for letter in letters]
        self._intake.until_done(lambda: self._publisher.send(messages), "sending dead letters")
        self._intake.until_done(lambda: self._write(labels, letters, moves), "writing labels")
        for letter in letters:
            self._observer.refused(letter)
        for label in labels:
            self._observer.label(label.source)

    def _write(self, labels: Sequence[Label], letters: Sequence[DeadLetter], moves: Mapping[Partition, Move]) -> None:
        now = datetime.now(UTC)
        with self._engine.begin() as connection:
            offsets.advance(connection, self._group, moves, now)
            store(connection, labels, now)
            insert_dead_letters(connection, letters)
            if (people := told_by_people(labels)) is not None:
                # last: whoever appends to the audit log waits for one another until they commit
                told = {"actor": self._group, "action": "labelled", "subject": "labels", "details": people, "at": now}
                connection.execute(insert(audit_log).values(told))

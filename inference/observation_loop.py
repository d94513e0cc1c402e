"""Observations from their topic into log and summaries: the recorder's one transaction, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Engine

from inference import gaps
from inference.answers import dead_letter
from inference.clock import ClockTolerance
from inference.consumer import GroupConsumer
from inference.errors import Refusal
from inference.intake import Intake
from inference.observations import parse
from inference.observe import Observer
from inference.observed_rows import ObservedRow, row
from inference.observed_telemetry import ObservationMetrics
from inference.observed_versions import ObservedVersions
from inference.offsets import Move, ReadOffsets
from inference.outcome import DeadLetter
from inference.publisher import Publisher
from inference.pulse import Pulse
from inference.record import Partition, Record
from inference.recorder import Recorder
from inference.retry import Stop

Read = ObservedRow | DeadLetter


class ObservationLoop:
    """Reads observations until it is asked to stop; bad ones are dead-lettered with a reason, and none is answered."""

    def __init__(
        self,
        *,
        consumer: GroupConsumer,
        read_offsets: ReadOffsets,
        engine: Engine,
        group: str,
        worker_id: str,
        versions: ObservedVersions,
        recorder: Recorder,
        publisher: Publisher,
        dead_letter_topic: str,
        tolerance: ClockTolerance,
        observer: Observer,
        metrics: ObservationMetrics,
        stop: Stop,
        pulse: Pulse,
        max_bytes: int,
        batch: int,
        pace_seconds: float,
    ) -> None:
        """Messages above `max_bytes` are refused; `batch` and `pace_seconds` bound size and number of transactions."""
        self._versions = versions
        self._recorder = recorder
        self._publisher = publisher
        self._dead_letter_topic = dead_letter_topic
        self._tolerance = tolerance
        self._observer = observer
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._intake = Intake(
            consumer=consumer,
            read_offsets=read_offsets,
            record_gaps=gaps.recorder(engine, group, worker_id),
            name="observation",
            handle=self._handle,
            observer=observer,
            stop=stop,
            pulse=pulse,
            batch=batch,
            pace_seconds=pace_seconds,
            forget=recorder.forget,
        )

    def run(self) -> None:
        """Serve until a stop is requested."""
        self._intake.run()

    @property
    def assigned(self) -> bool:
        """Whether the group has given this member its part and its positions are known."""
        return self._intake.assigned

    def _handle(self, records: list[Record], moves: Mapping[Partition, Move]) -> None:
        until_done = self._intake.until_done
        read = until_done(lambda: [self._read(record) for record in records], "reading model versions")
        letters = [each for each in read if isinstance(each, DeadLetter)]
        until_done(lambda: self._send(letters), "sending dead letters")
        outcomes = [each.predicted if isinstance(each, ObservedRow) else each for each in read]
        written = until_done(lambda: self._recorder.write(outcomes, moves, self._send), "writing observations")
        self._observer.written(written)
        for letter in (*letters, *written.refused):
            self._observer.refused(letter)
        self._metrics.observed([each for each in read if isinstance(each, ObservedRow)])

    def _send(self, letters: Sequence[DeadLetter]) -> None:
        self._publisher.send([dead_letter(letter, self._dead_letter_topic) for letter in letters])

    def _read(self, record: Record) -> Read:
        """The record's row or dead letter. Raises SQLAlchemyError where the database is away: read it again."""
        observation = parse(record, self._max_bytes)
        if isinstance(observation, Refusal):
            return DeadLetter(record, observation)
        known = self._versions.find(observation)
        found = known if isinstance(known, Refusal) else row(record, observation, known, self._tolerance)
        return DeadLetter(record, found) if isinstance(found, Refusal) else found

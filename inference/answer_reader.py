"""Reads answers and dead letters as they come, for whoever waits for them: every partition, from now on, ungrouped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from inference.waiting import Reply, Waiting

_log = logging.getLogger(__name__)
POLL_MS = 200
# Partitions may be added to a topic at any time; what lies in new ones is read from their start.
LOOK_SECONDS = 10.0


class AnswerReader:
    """A thread that reads until it is closed. A broker that is away is waited for."""

    def __init__(
        self,
        connection: Mapping[str, Any],
        waiting: Waiting,
        *,
        answers: str,
        dead_letters: str,
        client_id: str,
        fetch_wait_ms: int = 500,
    ) -> None:
        """Raises KafkaError where the broker cannot be reached."""
        self._waiting = waiting
        self._topics = (answers, dead_letters)
        self._answers = answers
        self._consumer = KafkaConsumer(
            **connection,
            client_id=client_id,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_wait_ms=fetch_wait_ms,
            metadata_max_age_ms=int(LOOK_SECONDS * 1000),
            metrics_enabled=False,
        )
        self._stop = threading.Event()
        self._known: set[TopicPartition] = set()
        self._looked = 0.0
        self.problem: str | None = "not reading yet"
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def start(self) -> None:
        """Stand at the end of every partition, so that no answer to a later request is missed, and read."""
        self._look(first=True)
        self.problem = None
        self._thread.start()

    def close(self) -> None:
        """Stop reading and let go of the broker."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
                self._read()
                self.problem = None
            except KafkaError as error:
                self.problem = f"answers cannot be read: {type(error).__name__}"
                _log.warning("%s", self.problem)
                self._stop.wait(1)

    def _look(self, *, first: bool = False) -> None:
        if not first and time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        found = {
            TopicPartition(topic, number)
            for topic in self._topics
            for number in self._consumer.partitions_for_topic(topic) or ()
        }
        if new := found - self._known:
            self._consumer.assign(sorted(found | self._known))
            if first:
                self._consumer.seek_to_end(*new)
                for each in new:
                    self._consumer.position(each)  # asked for now: a request sent later must not be answered before it
            else:
                self._consumer.seek_to_beginning(*new)
            self._known |= found
        missing = sorted(set(self._topics) - {each.topic for each in self._known})
        if missing:
            raise KafkaError(f"there is no topic {', '.join(missing)}")

    def _read(self) -> None:
        for records in self._consumer.poll(timeout_ms=POLL_MS).values():
            for record in records:
                request_id = (record.key or b"").decode("utf-8", "replace")
                if request_id in self._waiting:
                    self._waiting.tell(request_id, self._reply(record))

    def _reply(self, record: Any) -> Reply:
        if record.topic == self._answers:
            return Reply(record.value)
        said = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
        return Reply(None, said.get("error-code", "refused"), said.get("error-detail", ""))

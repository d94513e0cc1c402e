"""The accounts: everything that went into the topics against everything that came out of them and into the log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition
from sqlalchemy import Engine, func, select

from migrations.schema.prediction_log import dead_letters, labels, prediction_log

READ_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over the whole run.

    `sent` counts messages in the request topic and `answered` request ids in the answer topic. `lost` counts messages
    that are neither logged, nor dead letters, nor repeats of a logged request id; `duplicated` log rows beyond one
    per request id.
    """

    sent: int
    answered: int
    logged: int
    dead_lettered: int
    lost: int
    duplicated: int
    labels: int

    def __str__(self) -> str:
        return (
            f"{self.sent} sent, {self.answered} answered, {self.logged} logged, {self.dead_lettered} dead-lettered, "
            f"{self.lost} lost, {self.duplicated} twice"
        )


@dataclass(frozen=True, slots=True)
class Topics:
    """Topic names."""

    requests: str
    predictions: str
    dead_letters: str


def audit(bootstrap: str, topics: Topics, engine: Engine) -> Totals:
    """Read the topics from their beginning and compare them with the log."""
    sent = Counter(key.decode() if key else "" for key, _ in read(bootstrap, topics.requests))
    keyless = sent.pop("", 0)
    answered = {key for key, _ in read(bootstrap, topics.predictions)}
    with engine.connect() as connection:
        rows = Counter(connection.scalars(select(prediction_log.c.request_id)))
        refused = connection.scalar(select(func.count()).select_from(dead_letters)) or 0
        labelled = connection.scalar(select(func.count()).select_from(labels)) or 0
    # Messages without a key are the deliberately bad ones, which never have a log row.
    lost = len(sent.keys() - rows.keys()) + max(0, keyless - refused)
    return Totals(
        sent=sent.total() + keyless,
        answered=len(answered),
        logged=rows.total(),
        dead_lettered=refused,
        lost=lost,
        duplicated=rows.total() - len(rows),
        labels=labelled,
    )


def dead_letter_codes(bootstrap: str, topics: Topics) -> Counter[str]:
    """How often each error code stands in the dead-letter topic."""
    return Counter(
        value.decode()
        for _, headers in read(bootstrap, topics.dead_letters)
        for name, value in headers
        if name == "error-code"
    )


def read(bootstrap: str, topic: str) -> Iterator[tuple[bytes | None, list[tuple[str, bytes]]]]:
    """Key and headers of every message that is in a topic now."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, consumer_timeout_ms=READ_SECONDS * 1000
    )
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        if not partitions:
            return
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = {part: end for part, end in consumer.end_offsets(partitions).items() if end > 0}
        deadline = time.monotonic() + READ_SECONDS
        while ends:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic} could not be read to its end within {READ_SECONDS:.0f} s")
            for part, messages in consumer.poll(timeout_ms=1000).items():
                for message in messages:
                    yield message.key, message.headers
                if part in ends and consumer.position(part) >= ends[part]:
                    del ends[part]
    finally:
        consumer.close()

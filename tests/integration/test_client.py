"""A group's member asks for what comes next as soon as it has something to do, and waits where nobody answers."""

from __future__ import annotations

import time
from pathlib import Path

from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from inference.consumer import GroupConsumer
from inference.fetching import Fetching
from inference.record import Record
from tests.support.brokers import restartable
from tests.support.worker import RUN, wait_until

TOPIC = f"client-{RUN}"
GATHERS = Fetching(wait_ms=4_000, min_bytes=100)
FIRST, SECOND = b"1" * GATHERS.min_bytes, b"2" * GATHERS.min_bytes


def test_while_messages_are_dealt_with_the_broker_gathers_the_next(broker: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=broker, enable_idempotence=False)
    consumer = GroupConsumer({"bootstrap_servers": broker}, f"client-{RUN}", TOPIC, "c", 300, fetching=GATHERS)

    def polled() -> list[Record]:
        return consumer.poll(3.0, 10)

    try:
        wait_until(lambda: consumer.poll(0.2, 1) or consumer.unsynced, 60, "nothing was assigned")
        consumer.sync(lambda _: {})
        producer.send(TOPIC, value=FIRST).get()
        assert [record.value for record in wait_until(polled, 60, "nothing came")] == [FIRST]
        producer.send(TOPIC, value=SECOND).get()
        fetched = consumer._consumer._fetcher._completed_fetches
        wait_until(lambda: bool(fetched), 60, "what comes is asked for by the next poll only")
        assert [record.value for record in polled()] == [SECOND]
    finally:
        consumer.close()
        producer.close()


def test_waiting_for_a_broker_that_stands_still_costs_next_to_nothing(tmp_path: Path) -> None:
    with restartable("embedded", tmp_path) as broker:
        connection = {"bootstrap_servers": broker.address}
        admin = KafkaAdminClient(**connection)
        admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
        admin.close()
        consumer = GroupConsumer(connection, f"still-{RUN}", TOPIC, "c", 300)
        wait_until(lambda: consumer.poll(0.2, 1) or consumer.unsynced, 60, "nothing was assigned")
        consumer.sync(lambda _: {})
        broker.pause()
        _polling(consumer, 3.0)  # a heartbeat falls due, and has no answer
        used, began = time.process_time(), time.monotonic()
        _polling(consumer, 2.0)
        assert time.process_time() - used < 0.2 * (time.monotonic() - began)
        broker.resume()
        consumer.close()


def _polling(consumer: GroupConsumer, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        consumer.poll(0.2, 1)

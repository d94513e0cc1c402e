"""What was read to the log's end is no gap, also where the last messages came in one batch."""

from __future__ import annotations

import time
from unittest import mock

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from inference.consumer import GroupConsumer
from inference.log_end import reaches
from inference.offsets import Position
from inference.record import Partition
from tests.support.worker import RUN, wait_until

TOPIC = f"log-end-{RUN}"
BATCH = 3


@pytest.fixture(scope="module")
def filled(broker: str) -> str:
    """The broker, with a topic of one partition that holds one batch."""
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    admin.close()
    client = KafkaProducer(bootstrap_servers=broker, enable_idempotence=False, linger_ms=1000)
    sent = [client.send(TOPIC, value=b"x") for _ in range(BATCH)]
    client.close()
    assert [each.get().offset for each in sent] == list(range(BATCH))
    return broker


def test_a_fetch_tells_whether_the_log_reaches_an_offset(filled: str) -> None:
    there = TopicPartition(TOPIC, 0)
    reached = [offset for offset in range(BATCH + 2) if reaches({"bootstrap_servers": filled}, there, offset)]
    assert reached == list(range(BATCH + 1))


def test_a_position_at_the_end_is_no_gap_and_no_lag_and_no_member_with_a_part_is_left_out(filled: str) -> None:
    consumer = GroupConsumer({"bootstrap_servers": filled}, f"log-end-{RUN}", TOPIC, "c", 300)
    try:
        assert not consumer.left_out(0), "a group may take its time"
        with mock.patch("inference.consumer.REBALANCE_SECONDS", 0.0):
            assert consumer.left_out(0)
            assert not consumer.left_out(60)
        wait_until(lambda: consumer.poll(0.2, 1) or consumer.unsynced, 60, "nothing was assigned")
        with mock.patch("inference.consumer.REBALANCE_SECONDS", 0.0):
            assert not consumer.left_out(0)
        assert consumer.sync(lambda _: {Partition(TOPIC, 0): Position(BATCH)}) == []
        assert consumer.poll(1.0, 1) == []
        assert consumer.behind() == ({Partition(TOPIC, 0): BATCH}, {Partition(TOPIC, 0): 0})
        assert consumer.lag() == {Partition(TOPIC, 0): 0}
    finally:
        consumer.close()


def test_what_is_read_and_not_yet_written_is_lag(filled: str) -> None:
    where = Partition(TOPIC, 0)
    consumer = GroupConsumer({"bootstrap_servers": filled}, f"log-end-lag-{RUN}", TOPIC, "c", 300)
    try:
        wait_until(lambda: consumer.poll(0.2, 1) or consumer.unsynced, 60, "nothing was assigned")
        consumer.sync(lambda _: {where: Position(1)})
        records = wait_until(lambda: consumer.poll(0.2, 1), 60, "nothing came")
        assert [record.offset for record in records] == [1]
        assert consumer.lag() == {where: 2}
        consumer.stored(consumer.moves(records))
        assert consumer.lag() == {where: 1}
    finally:
        consumer.close()


def test_a_part_that_was_given_between_two_polls_is_kept(filled: str) -> None:
    consumer = GroupConsumer({"bootstrap_servers": filled}, f"log-end-between-{RUN}", TOPIC, "c", 300)
    try:
        for _ in range(5):
            assert consumer.poll(0.05, 1) == []
        time.sleep(8.0)  # longer than a broker waits for other members of a new group
        for _ in range(3):
            consumer.poll(0.05, 1)
        assert consumer.unsynced == {Partition(TOPIC, 0)}
    finally:
        consumer.close()

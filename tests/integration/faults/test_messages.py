"""Messages that must not stop the others, and messages that come again."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from sqlalchemy import delete, select

from migrations.schema.prediction_log import consumer_offsets, dead_letters
from tests.integration.faults.conftest import NewSubject
from tests.support.constant_model import Models
from tests.support.exactly_once import (
    SECONDS,
    assert_exactly_once,
    logged,
    metric,
    names,
    rows,
    send_all,
    stored_offsets,
    wait_for_log,
)
from tests.support.worker import WorkerProcess, in_process, read_all, wait_until

BATCH = 4


def test_poison_in_every_place_of_a_batch_is_set_aside_once_and_the_rest_is_logged(
    models: Models, new_subject: NewSubject
) -> None:
    worker, engine = new_subject("poison", BATCH_SIZE=str(BATCH))
    ids = names("sound", BATCH * (BATCH - 1))
    messages: list[Any] = list(ids)
    for place in range(BATCH):
        messages.insert(place * BATCH + place, b'{"schema_version": 1, "request_id": ')
    with in_process(worker):
        send_all(worker, messages, partition=0)
        assert_exactly_once(engine, worker, ids)
        letters = rows(engine, select(dead_letters.c.offset, dead_letters.c.error_code).order_by("offset"))
        assert [tuple(letter) for letter in letters] == [(p * BATCH + p, "not_decodable") for p in range(BATCH)]
        topic = worker.topics["dead_letters"]
        sent = read_all(worker.broker, topic, lambda found: len(found) >= BATCH, SECONDS)
        assert sorted(int(dict(each.headers)["origin-offset"]) for each in sent) == [
            p * BATCH + p for p in range(BATCH)
        ]


def test_a_group_set_back_in_kafka_or_in_the_database_adds_no_row(models: Models, new_subject: NewSubject) -> None:
    worker, engine = new_subject("set-back")
    ids = names("again", 60)
    with in_process(worker):
        send_all(worker, ids)
        assert_exactly_once(engine, worker, ids)
    ends = stored_offsets(engine, worker)
    _set_back(worker)
    with in_process(worker):  # Kafka's own offsets are for its tools: nothing is read again
        wait_until(lambda: metric(worker, "fusion_rebalances_total") > 0, SECONDS, "no positions were read")
        assert stored_offsets(engine, worker) == ends
        assert metric(worker, "fusion_requests_total") == 0
    with engine.begin() as connection:
        connection.execute(delete(consumer_offsets).where(consumer_offsets.c.group_id == worker.group))
    duplicates = 'fusion_requests_total{model_version="",outcome="duplicate"}'
    with in_process(worker):  # read again from the beginning, by an operator's wish
        wait_until(lambda: metric(worker, duplicates) == len(ids), SECONDS, "they were not read again")
        assert_exactly_once(engine, worker, ids)


def test_equal_ids_sent_at_once_to_two_partitions_of_two_workers_are_logged_once(
    models: Models, new_subject: NewSubject
) -> None:
    worker, engine = new_subject("twice")
    other = WorkerProcess(worker.name, worker.database, worker.broker, worker.log.with_suffix(".2"), worker.extra)
    ids = names("twin", 80)
    with in_process(worker), in_process(other):
        send_all(worker, [request_id for request_id in ids for _ in range(2)])  # in turn to the two partitions
        assert_exactly_once(engine, worker, ids)
        duplicates = 'fusion_requests_total{model_version="",outcome="duplicate"}'
        wait_until(
            lambda: metric(worker, duplicates) + metric(other, duplicates) == len(ids),
            SECONDS,
            lambda: (
                f"{metric(worker, duplicates)} and {metric(other, duplicates)} duplicates of {len(ids)} were counted"
            ),
        )
        more = names("more", 10)
        send_all(worker, more)
        wait_for_log(engine, len(ids) + len(more))
    assert len(logged(engine)) == len(ids) + len(more)


def _set_back(worker: WorkerProcess) -> None:
    client = KafkaConsumer(bootstrap_servers=worker.broker, group_id=worker.group, enable_auto_commit=False)
    try:
        partitions = [TopicPartition(worker.topics["requests"], number) for number in (0, 1)]
        client.assign(partitions)
        client.commit({partition: OffsetAndMetadata(0, "", -1) for partition in partitions})
    finally:
        client.close()

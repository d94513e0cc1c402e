"""Compressed topics of Apache Kafka, and producers that compress: every request is read, answered and logged."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, KafkaAdminClient, NewTopic
from sqlalchemy import create_engine, select

from inference.answers import Outgoing
from inference.publisher import Publisher
from migrations.schema.prediction_log import prediction_log
from tests.support.apache_kafka import Broker, apache_kafka
from tests.support.worker import WorkerProcess, in_process, read_all, request, wait_until

pytestmark = pytest.mark.apache
CODECS = {"none": 0, "gzip": 1, "lz4": 3, "zstd": 4}  # the low three bits of a batch's attributes
_BATCH = struct.Struct(">qiibIh")  # base offset, length, leader epoch, magic, checksum, attributes
_BEFORE_LENGTH = 12


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with apache_kafka(tmp_path_factory.mktemp("compressing-kafka")) as broker:
        yield broker


def stored_codecs(kafka: Broker, topic: str) -> set[int]:
    """How the batches of a topic's partition 0 lie in the broker's log."""
    file = kafka.folder / "data" / f"{topic}-0" / f"{0:020}.log"
    log = file.read_bytes() if file.exists() else b""  # a new topic's file comes a little later than the topic
    found, at = set(), 0
    while at < len(log):
        _, length, _, _, _, attributes = _BATCH.unpack_from(log, at)
        found.add(attributes & 0b111)
        at += _BEFORE_LENGTH + length
    return found


def make(kafka: Broker, topic: str, **configs: str) -> None:
    """Make a topic of one partition."""
    with KafkaAdminClient(bootstrap_servers=kafka.address) as admin:
        admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs)])


def send_by_every_codec(kafka: Broker, topic: str, name: str) -> list[str]:
    """Twenty requests from a producer of each codec; their ids."""
    ids = []
    for codec in CODECS:
        compression = None if codec == "none" else codec
        producer = KafkaProducer(bootstrap_servers=kafka.address, compression_type=compression, linger_ms=50)
        for number in range(20):
            ids.append(f"{name}-{codec}-{number:02}")
            headers = [("traceparent", f"00-{ids[-1]}".encode())]
            producer.send(topic, json.dumps(request(ids[-1])).encode(), b"a-key", headers)
        producer.flush()
        producer.close()
    return ids


def test_requests_of_every_codec_are_answered_from_a_topic_stored_by_every_codec(
    kafka: Broker, database: str, tmp_path: Path
) -> None:
    asked = WorkerProcess("compressed", database, kafka.address, tmp_path / "log", {"ANSWER_COMPRESSION": "lz4"})
    make(kafka, asked.topics["predictions"])
    make(kafka, asked.topics["requests"], **{"compression.type": "uncompressed"})
    ids = []
    for codec in CODECS:
        before = stored_codecs(kafka, asked.topics["requests"])
        if codec != "none":
            with KafkaAdminClient(bootstrap_servers=kafka.address) as admin:
                stored = {"compression.type": codec}
                admin.alter_configs([ConfigResource("topic", asked.topics["requests"], configs=stored)])
        ids += send_by_every_codec(kafka, asked.topics["requests"], f"stored-{codec}")
        assert stored_codecs(kafka, asked.topics["requests"]) == before | {CODECS[codec]}
    with in_process(asked):
        answers = read_all(kafka.address, asked.topics["predictions"], lambda found: len(found) >= len(ids), 90)
        engine = create_engine(database)
        with engine.connect() as connection:
            ordered = select(prediction_log.c.request_id).order_by(prediction_log.c.request_id)
            wait_until(lambda: connection.scalars(ordered).all() == sorted(ids), 90, "not all are logged, each once")
        engine.dispose()
    assert sorted(answer.key.decode() for answer in answers) == sorted(ids)
    for answer in answers:
        assert dict(answer.headers)["traceparent"] == b"00-" + answer.key
    assert stored_codecs(kafka, asked.topics["predictions"]) == {CODECS["lz4"]}


@pytest.mark.parametrize("codec", CODECS)
def test_answers_are_compressed_as_set(kafka: Broker, codec: str) -> None:
    topic = f"answers-{codec}"
    make(kafka, topic)
    publisher = Publisher({"bootstrap_servers": [kafka.address]}, "test", codec)
    publisher.send([Outgoing(topic, b"a-key", b"the same again and again " * 100, (("a", b"b"),))] * 10)
    publisher.close()
    assert stored_codecs(kafka, topic) == {CODECS[codec]}
    found = read_all(kafka.address, topic, lambda messages: len(messages) == 10)
    assert [(each.key, each.value, list(each.headers)) for each in found] == [
        (b"a-key", b"the same again and again " * 100, [("a", b"b")])
    ] * 10

"""Compressed topics of Apache Kafka, and producers that compress: every request is read, answered and logged."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from sqlalchemy import create_engine, select

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
    log = (kafka.folder / "data" / f"{topic}-0" / f"{0:020}.log").read_bytes()
    found, at = set(), 0
    while at < len(log):
        _, length, _, _, _, attributes = _BATCH.unpack_from(log, at)
        found.add(attributes & 0b111)
        at += _BEFORE_LENGTH + length
    return found


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_requests_of_every_codec_are_answered_from_a_compressed_topic(
    kafka: Broker, database: str, tmp_path: Path, codec: str
) -> None:
    asked = WorkerProcess(f"compressed-{codec}", database, kafka.address, tmp_path / "log")
    asked.extra = {"ANSWER_COMPRESSION": codec}
    admin = KafkaAdminClient(bootstrap_servers=kafka.address)
    admin.create_topics([NewTopic(asked.topics["requests"], 1, 1, topic_configs={"compression.type": codec})])
    admin.create_topics([NewTopic(asked.topics["predictions"], 1, 1)])
    admin.close()
    ids = [f"{sent}-{number:02}" for sent in CODECS for number in range(20)]
    for sent in CODECS:
        producer = KafkaProducer(
            bootstrap_servers=kafka.address, compression_type=None if sent == "none" else sent, linger_ms=50
        )
        for name in ids:
            if name.startswith(sent):
                headers = [("traceparent", f"00-{name}".encode())]
                producer.send(asked.topics["requests"], json.dumps(request(name)).encode(), b"a-key", headers)
        producer.flush()
        producer.close()
    assert stored_codecs(kafka, asked.topics["requests"]) == {CODECS[codec]}
    with in_process(asked):
        answers = read_all(kafka.address, asked.topics["predictions"], lambda found: len(found) >= len(ids), 60)
        engine = create_engine(database)
        with engine.connect() as connection:
            ordered = select(prediction_log.c.request_id).order_by(prediction_log.c.request_id)
            wait_until(lambda: connection.scalars(ordered).all() == sorted(ids), 60, "not all are logged, each once")
        engine.dispose()
    assert sorted(answer.key.decode() for answer in answers) == sorted(ids)
    for answer in answers:
        assert dict(answer.headers)["traceparent"] == b"00-" + answer.key
    assert stored_codecs(kafka, asked.topics["predictions"]) == {CODECS[codec]}

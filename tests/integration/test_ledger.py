"""The accounts on a real broker and database: what is missing or doubled must show."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from sqlalchemy import Engine, insert

from demo import ledger
from demo.ledger import Topics
from migrations.connect import connect
from migrations.schema.prediction_log import dead_letters, prediction_log

NOW = datetime.now(UTC)


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = connect(database, application="test")
    yield engine
    engine.dispose()


@pytest.fixture
def topics(broker: str) -> Topics:
    run = uuid.uuid4().hex
    named = Topics(f"requests-{run}", f"answers-{run}", f"dead-{run}")
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(name, 2, 1) for name in (named.requests, named.predictions, named.dead_letters)])
    admin.close()
    return named


def log(engine: Engine, *request_ids: str, logged_at: datetime = NOW) -> None:
    with engine.begin() as connection:
        for offset, request_id in enumerate(request_ids):
            connection.execute(
                insert(prediction_log).values(
                    request_id=request_id,
                    logged_at=logged_at,
                    produced_at=NOW,
                    topic="t",
                    partition=0,
                    offset=offset,
                    schema_version=1,
                    model_version="m",
                    route="fused",
                    status="ok",
                    degraded=False,
                    **{f"{stage}_ms": 1.0 for stage in ("queue", "preprocess", "encode", "fuse", "total")},
                )
            )


def test_an_empty_run_has_empty_accounts(broker: str, topics: Topics, engine: Engine) -> None:
    assert ledger.audit(broker, topics, engine) == ledger.Totals(0, 0, 0, 0, 0, 0, 0)


def test_lost_and_doubled_rows_show(broker: str, topics: Topics, engine: Engine) -> None:
    producer = KafkaProducer(bootstrap_servers=broker, acks="all")
    for key in (b"a", b"b", b"b", b"c", None, None):  # b is sent twice; two messages are nobody's request
        producer.send(topics.requests, key=key, value=b"x")
    for key in (b"a", b"b", b"b"):
        producer.send(topics.predictions, key=key, value=b"y")
    producer.send(topics.dead_letters, value=b"x", headers=[("error-code", b"not_decodable")])
    producer.flush()
    producer.close()
    log(engine, "a", "b")
    log(engine, "b", logged_at=NOW + timedelta(microseconds=1))
    with engine.begin() as connection:
        connection.execute(
            insert(dead_letters).values(topic="t", partition=0, offset=9, error_code="not_decodable", error_detail="")
        )

    totals = ledger.audit(broker, topics, engine)
    assert totals == ledger.Totals(sent=6, answered=2, logged=3, dead_lettered=1, lost=2, duplicated=1, labels=0), (
        "c was never logged, and one of the two strange messages is no dead letter"
    )
    assert ledger.dead_letter_codes(broker, topics) == {"not_decodable": 1}

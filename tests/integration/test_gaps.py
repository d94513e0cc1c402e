"""A stored offset that the log does not have: recorded once with the move past it, and reading goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaConnectionError, TopicAlreadyExistsError
from sqlalchemy import Engine, create_engine, insert, select

from inference import gaps, offsets
from inference.consumer import GroupConsumer
from inference.errors import StaleWriteError
from inference.gaps import Gap
from inference.offsets import Move, Position
from inference.record import Partition, Record
from migrations.schema.prediction_log import consumer_offsets, dead_letters, offset_gaps
from migrations.schema.summaries import summaries
from tests.support.worker import RUN, producer, wait_until

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
GROUP = "group"


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    yield engine
    engine.dispose()


def store(engine: Engine, **next_offsets: int) -> dict[str, Partition]:
    """Store a next offset for partition 0 of each topic."""
    at = {topic: Partition(topic, 0) for topic in next_offsets}
    with engine.begin() as connection:
        offsets.advance(connection, GROUP, {at[t]: Move(None, n) for t, n in next_offsets.items()}, NOW)
    return at


def stored(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        rows = connection.execute(select(consumer_offsets.c.topic, consumer_offsets.c.next_offset))
        return {row.topic: row.next_offset for row in rows}


def recorded(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(offset_gaps).order_by(offset_gaps.c.detected_at, offset_gaps.c.topic)))


def record(engine: Engine, *found: Gap, at: datetime = NOW, worker: str = "w1") -> dict[Partition, Move]:
    with engine.begin() as connection:
        return gaps.record(connection, GROUP, found, at, worker)


def test_both_kinds_are_recorded_with_the_move_past_them(engine: Engine) -> None:
    at = store(engine, cut=100, anew=100)
    moves = record(engine, Gap(at["cut"], 100, 512), Gap(at["anew"], 100, 0))
    assert moves == {at["cut"]: Move(100, 512), at["anew"]: Move(100, 0)}
    assert stored(engine) == {"cut": 512, "anew": 0}
    anew, cut = recorded(engine)
    assert (cut.kind, cut.stored_offset, cut.resumed_offset, cut.lost) == ("expired", 100, 512, 412)
    assert (anew.kind, anew.stored_offset, anew.resumed_offset, anew.lost) == ("reset", 100, 0, 0)
    assert (cut.group_id, cut.partition, cut.worker_id, cut.detected_at, cut.seen_at) == (GROUP, 0, "w1", NOW, None)


def test_a_crash_before_the_commit_leaves_neither_record_nor_move(engine: Engine) -> None:
    at = store(engine, cut=100)
    with engine.connect() as connection:
        gaps.record(connection, GROUP, [Gap(at["cut"], 100, 512)], NOW, "w1")
        connection.rollback()
    assert (recorded(engine), stored(engine)) == ([], {"cut": 100})


def test_of_two_workers_or_attempts_one_records_a_gap(engine: Engine) -> None:
    at = store(engine, cut=100, other=7)
    record(engine, Gap(at["cut"], 100, 512))
    for worker in ("w1", "w2"):
        with pytest.raises(StaleWriteError):
            record(engine, Gap(at["cut"], 100, 512), Gap(at["other"], 7, 9), at=NOW + timedelta(1), worker=worker)
    assert [(row.topic, row.worker_id) for row in recorded(engine)] == [("cut", "w1")]
    assert stored(engine) == {"cut": 512, "other": 7}


def test_the_same_offsets_may_be_missing_again_later(engine: Engine) -> None:
    """A topic made anew twice: both times it had been read to the same offset."""
    at = store(engine, anew=100)
    for day in range(2):
        record(engine, Gap(at["anew"], 100, 0), at=NOW + timedelta(day))
        with engine.begin() as connection:
            offsets.advance(connection, GROUP, {at["anew"]: Move(0, 100)}, NOW)
    assert len(recorded(engine)) == 2


def _summary(topic: str, first_offset: int, rows: int) -> dict[str, Any]:
    return {
        "slot_start": NOW,
        "model_version": "v1",
        "modality": "fused",
        "topic": topic,
        "partition": 0,
        "first_offset": first_offset,
        "slot_seconds": 60,
        "worker_id": "w1",
        "encoder_fingerprint": "e",
        "counts": {"rows": rows},
        "bins": b"",
        "updated_at": NOW,
    }


def _letter(topic: str, offset: int, code: str) -> dict[str, Any]:
    return {"topic": topic, "partition": 0, "offset": offset, "error_code": code, "error_detail": ""}


def test_what_a_reset_log_left_is_kept_beside_what_the_new_one_brings(engine: Engine) -> None:
    """A new log has the old one's offsets again, also twice within a slot: nothing may take another's place."""
    at = store(engine, anew=100, other=100)
    with engine.begin() as connection:
        connection.execute(insert(summaries), [_summary("other", 0, 1), _summary("other", 50, 1)])
        connection.execute(insert(dead_letters), [_letter("other", 3, "other")])
    for life in range(3):
        with engine.begin() as connection:
            connection.execute(insert(summaries), [_summary("anew", 0, 50), _summary("anew", 50, 50)])
            connection.execute(insert(dead_letters), [_letter("anew", offset, f"life {life}") for offset in (3, 99)])
        record(engine, Gap(at["anew"], 100, 0), at=NOW + timedelta(minutes=life))
        with engine.begin() as connection:
            offsets.advance(connection, GROUP, {at["anew"]: Move(0, 100)}, NOW)
    with engine.connect() as connection:
        kept = connection.execute(select(summaries.c.first_offset, summaries.c.counts, summaries.c.topic)).all()
        letters = connection.execute(select(dead_letters.c.offset, dead_letters.c.error_code)).all()
    ours = [(offset, counts["rows"]) for offset, counts, topic in kept if topic == "anew"]
    assert sum(rows for _, rows in ours) == 300
    assert all(offset < 0 for offset, _ in ours)
    assert sorted(offset for offset, _, topic in kept if topic == "other") == [0, 50]
    assert sorted(code for _, code in letters) == sorted([*(f"life {n}" for n in range(3) for _ in range(2)), "other"])
    assert [offset for offset, code in letters if code == "other"] == [3]
    assert sum(offset < 0 for offset, _ in letters) == 6


def test_of_a_log_cut_short_only_what_is_read_again_is_renumbered(engine: Engine) -> None:
    at = store(engine, anew=100)
    with engine.begin() as connection:
        connection.execute(insert(dead_letters), [_letter("anew", offset, "bad") for offset in (3, 92)])
    record(engine, Gap(at["anew"], 100, 90))
    with engine.connect() as connection:
        assert sorted(connection.scalars(select(dead_letters.c.offset))) == [-1, 3]


def _put(broker: str, topic: str, n: int) -> None:
    with producer(broker) as send:
        for number in range(n):
            send(topic, {"n": number}, partition=0)


def _read(consumer: GroupConsumer, engine: Engine, n: int) -> list[Record]:
    """Sync as a worker does, then n records; each round's offsets are stored."""
    got: list[Record] = []

    def step() -> bool:
        if consumer.unsynced:
            with engine.begin() as connection:
                found = consumer.sync(lambda partitions: offsets.read(connection, GROUP, partitions))
                moves = gaps.record(connection, GROUP, found, datetime.now(UTC), "w1")
            consumer.moved(moves)
        records = consumer.poll(0.2, 100)
        moves = consumer.moves(records)
        with engine.begin() as connection:
            offsets.advance(connection, GROUP, moves, NOW)
        consumer.moved(moves)
        got.extend(records)
        return len(got) >= n

    wait_until(step, 60, "the records did not come")
    return got


def _made_anew(broker: str, topic: str, messages: int) -> None:
    """Delete the topic, and make another one of its name; the embedded broker makes it for whoever asks for it."""
    admin = KafkaAdminClient(bootstrap_servers=broker)
    try:
        before = admin.describe_topics([topic])[0]["topic_id"]
        admin.delete_topics([topic])

        def made() -> bool:
            with suppress(TopicAlreadyExistsError):
                admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
            found = admin.describe_topics([topic])[0]
            return bool(found["error_code"] == 0 and found["topic_id"] != before)

        wait_until(made, 30, "it was not made anew")
    finally:
        admin.close()
    _put(broker, topic, messages)


def test_a_topic_made_anew_while_nobody_read_is_read_from_its_beginning_however_long_it_is(
    engine: Engine, broker: str
) -> None:
    topic = f"gaps.anew-{RUN}"
    lives = (5, 3, 8)
    at = store(engine, **{topic: 2})  # as before ids were stored
    ids = []
    for life, n in enumerate(lives):
        make = _made_anew if life else _topic
        make(broker, topic, n)
        first = 0 if life else 2
        consumer = GroupConsumer({"bootstrap_servers": broker}, GROUP, topic, f"life-{life}", 300)
        try:
            records = _read(consumer, engine, n - first)
        finally:
            consumer.close()
        assert [record.offset for record in records] == list(range(first, n))
        with engine.connect() as connection:
            position = offsets.read(connection, GROUP, at.values())[at[topic]]
        assert position.next == n
        ids.append(position.topic_id)
    assert None not in ids
    rows = [
        (row.kind, row.stored_offset, row.resumed_offset, row.lost, row.stored_topic_id, row.topic_id)
        for row in recorded(engine)
    ]
    assert sorted(rows) == sorted([("reset", 5, 0, 0, ids[0], ids[1]), ("reset", 3, 0, 0, ids[1], ids[2])])


def test_a_topic_made_anew_under_a_reader_that_it_has_outgrown_is_read_from_its_beginning(
    engine: Engine, broker: str
) -> None:
    """Fetches go by name: until the client hears of the other id it goes on in the middle of the new log."""
    topic = f"gaps.outgrown-{RUN}"
    _topic(broker, topic, 5)
    with mock.patch("inference.client.METADATA_MS", 300):
        consumer = GroupConsumer({"bootstrap_servers": broker}, GROUP, topic, "outgrown", 300)
    try:
        _read(consumer, engine, 5)
        _made_anew(broker, topic, 8)
        wait_until(
            lambda: _read(consumer, engine, 1) and stored(engine) == {topic: 8} and recorded(engine), 60, "no gap"
        )
    finally:
        consumer.close()
    (row,) = recorded(engine)
    assert (row.kind, row.resumed_offset, row.lost) == ("reset", 0, 0)
    assert row.topic_id != row.stored_topic_id


def test_a_client_that_cannot_be_replaced_stays_and_reads_on(engine: Engine, broker: str) -> None:
    topic = f"gaps.kept-{RUN}"
    _topic(broker, topic, 2)
    consumer = GroupConsumer({"bootstrap_servers": broker}, GROUP, topic, "kept", 300)
    try:
        _read(consumer, engine, 2)
        away = mock.patch("inference.consumer.Client", side_effect=KafkaConnectionError)
        with away, pytest.raises(KafkaConnectionError):
            consumer.rebuild()
        _put(broker, topic, 1)
        assert [record.offset for record in _read(consumer, engine, 1)] == [2]
        consumer.rebuild()
        _put(broker, topic, 1)
        assert [record.offset for record in _read(consumer, engine, 1)] == [3]
    finally:
        consumer.close()


def test_a_worker_that_was_cut_off_does_not_write_over_the_same_offset_of_another_topic(engine: Engine) -> None:
    where, old, new = Partition("anew", 0), uuid4(), uuid4()
    with engine.begin() as connection:
        offsets.advance(connection, GROUP, {where: Move(None, 50, topic_id=old)}, NOW)
    record(engine, Gap(where, 50, 0, old, new))
    with engine.begin() as connection:
        offsets.advance(connection, GROUP, {where: Move(0, 50, new, new)}, NOW)
    with pytest.raises(StaleWriteError), engine.begin() as connection:
        offsets.advance(connection, GROUP, {where: Move(50, 60, old, old)}, NOW)
    with engine.connect() as connection:
        assert offsets.read(connection, GROUP, [where]) == {where: Position(50, new)}


def _cut(broker: str, topic: str, offset: int) -> None:
    """Delete what lies before the offset, as retention does."""
    admin = KafkaAdminClient(bootstrap_servers=broker)
    try:
        admin.delete_records({TopicPartition(topic, 0): offset})
    finally:
        admin.close()


def _topic(broker: str, topic: str, messages: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker)
    try:
        admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        admin.close()
    _put(broker, topic, messages)


@pytest.mark.apache  # the embedded broker cannot delete records
def test_messages_that_left_the_log_while_nobody_read_are_counted(engine: Engine, broker: str) -> None:
    topic = f"gaps.cut-{RUN}"
    _topic(broker, topic, 20)
    store(engine, **{topic: 5})
    _cut(broker, topic, 12)
    consumer = GroupConsumer({"bootstrap_servers": broker}, GROUP, topic, "cut", 300)
    try:
        assert [record.offset for record in _read(consumer, engine, 8)] == list(range(12, 20))
    finally:
        consumer.close()
    (row,) = recorded(engine)
    assert (row.kind, row.stored_offset, row.resumed_offset, row.lost) == ("expired", 5, 12, 7)


@pytest.mark.apache
def test_a_log_that_is_cut_in_front_of_a_reader_is_a_gap_too(engine: Engine, broker: str) -> None:
    topic = f"gaps.live-{RUN}"
    _topic(broker, topic, 20)
    store(engine, **{topic: 5})
    consumer = GroupConsumer({"bootstrap_servers": broker}, GROUP, topic, "live", 300)
    try:
        wait_until(lambda: consumer.poll(0.2, 1) or consumer.unsynced, 60, "nothing was assigned")
        with engine.connect() as connection:
            assert consumer.sync(lambda partitions: offsets.read(connection, GROUP, partitions)) == []
        _cut(broker, topic, 12)
        assert [record.offset for record in _read(consumer, engine, 8)] == list(range(12, 20))
    finally:
        consumer.close()
    (row,) = recorded(engine)
    assert (row.kind, row.stored_offset, row.resumed_offset, row.lost) == ("expired", 5, 12, 7)


@pytest.mark.apache
def test_a_topic_made_anew_under_a_reader_is_a_gap_too(engine: Engine, broker: str) -> None:
    topic = f"gaps.under-{RUN}"
    _topic(broker, topic, 5)
    consumer = GroupConsumer({"bootstrap_servers": broker}, GROUP, topic, "under", 300)
    try:
        _read(consumer, engine, 5)
        _made_anew(broker, topic, 3)
        assert [record.offset for record in _read(consumer, engine, 3)] == [0, 1, 2]
    finally:
        consumer.close()
    (row,) = recorded(engine)
    assert (row.kind, row.stored_offset, row.resumed_offset) == ("reset", 5, 0)


@pytest.mark.apache
def test_the_end_marker_of_a_transaction_is_nothing_to_read(engine: Engine, broker: str) -> None:
    """It takes an offset that no record has: a consumer that has read all must not count as stalled."""
    topic = f"gaps.transactions-{RUN}"
    _topic(broker, topic, 0)
    client = KafkaProducer(bootstrap_servers=broker, transactional_id="gaps")
    client.init_transactions()
    client.begin_transaction()
    client.send(topic, b"x", partition=0)
    client.commit_transaction()
    client.close()
    consumer = GroupConsumer({"bootstrap_servers": broker}, GROUP, topic, "transactions", 300)
    try:
        _read(consumer, engine, 1)
        wait_until(
            lambda: (
                not consumer.poll(0.2, 1) and consumer.behind() == ({Partition(topic, 0): 2}, {Partition(topic, 0): 0})
            ),
            30,
            "it did not count as read",
        )
        assert consumer.lag() == {Partition(topic, 0): 0}
    finally:
        consumer.close()

"""An observer killed, set back, without its database: every observation is logged once."""

from __future__ import annotations

import signal
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, func, insert, select, text, update

from demo import servers
from inference.topics import create_missing
from migrations.schema.prediction_log import (
    consumer_offsets,
    labels,
    offset_gaps,
)
from tests.support.observing import (
    SECONDS,
    Observer,
    assert_exactly_once,
    label,
    logged,
    observation,
    observing,
    rows,
    send_all,
)
from tests.support.worker import wait_until


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    yield engine
    engine.dispose()


def test_killed_in_the_middle_it_loses_and_repeats_nothing_and_a_stop_drains_it_all_without_torch(
    database: str, engine: Engine, broker: str, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('this machine has no torch')")
    environment = {"PYTHONPATH": str(tmp_path)}
    observer = Observer("observe-killed", database, broker, {"WRITE_ROWS": "50"})
    sent = [f"r{n:05}" for n in range(400)]
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE :name"
    )
    name = {"name": "fusionwatch-observe%"}
    observer.start(tmp_path / "log", environment)
    try:
        send_all(broker, observer.topics["observations"], [observation(each) for each in sent[:100]])
        assert_exactly_once(engine, sent[:100])
        with engine.begin() as connection:  # the next transaction gets as far as its summaries
            connection.execute(text("LOCK TABLE summaries IN EXCLUSIVE MODE"))
            send_all(broker, observer.topics["observations"], [observation(each) for each in sent[100:]])
            wait_until(lambda: rows(engine, waiting.bindparams(**name)) == [(1,)], SECONDS, "nothing was being written")
            observer.stop(signal.SIGKILL)
        observer.start(tmp_path / "log", environment)
        assert_exactly_once(engine, sent)
        assert observer.stop(signal.SIGTERM) == 0
    finally:
        observer.kill()
    group = consumer_offsets.c.group_id == observer.group
    assert rows(engine, select(func.sum(consumer_offsets.c.next_offset)).where(group)) == [(len(sent),)]


def test_a_stored_offset_that_the_log_does_not_have_is_told_and_reading_goes_on(
    database: str, engine: Engine, broker: str
) -> None:
    observer = Observer("observe-gap", database, broker)
    topics = {role: observer.topics[role] for role in ("observations", "labels")}
    groups = {"observations": observer.group, "labels": f"{observer.group}-labels"}
    # the labels' topic was made anew: it has grown beyond what was read of the one before
    create_missing({"bootstrap_servers": broker}, {topics["labels"]: 1})
    send_all(broker, topics["labels"], [label(f"l{n}", "yes", datetime.now(UTC)) for n in range(3)], partitions=1)
    before = {"observations": (5000, None), "labels": (2, uuid4())}
    with engine.begin() as connection:
        for role, (read, topic_id) in before.items():
            stored = {"group_id": groups[role], "topic": topics[role], "partition": 0, "next_offset": read}
            stored |= {"topic_id": topic_id, "updated_at": datetime.now(UTC)}
            connection.execute(insert(consumer_offsets).values(stored))
    with observing(observer):
        found = select(offset_gaps.c.topic, offset_gaps.c.kind, offset_gaps.c.stored_offset, offset_gaps.c.worker_id)
        wait_until(lambda: len(rows(engine, found)) == 2, SECONDS, "the gaps were not recorded")
        send_all(broker, topics["observations"], [observation("after-gap")], partitions=1)
        send_all(broker, topics["labels"], [label("after-gap", "yes", datetime.now(UTC))], partitions=1)
        logged(engine, "after-gap")
        wait_until(lambda: len(rows(engine, select(labels))) == 4, SECONDS, "a label was not read")
        wait_until(lambda: observer.get("/metrics").count("fusion_consumer_gaps_total{") == 2, SECONDS, "not counted")
    gaps = rows(engine, found)
    assert {(gap.topic, gap.kind, gap.stored_offset) for gap in gaps} == {
        (topics[role], "reset", offset) for role, (offset, _) in before.items()
    }
    offset = select(consumer_offsets.c.topic, consumer_offsets.c.next_offset).where(consumer_offsets.c.partition == 0)
    assert set(rows(engine, offset)) == {(topics["observations"], 1), (topics["labels"], 4)}


def test_while_the_database_is_away_nothing_is_lost_and_then_written_once(
    database: str, engine: Engine, postgres_server: servers.Database, broker: str
) -> None:
    observer = Observer("observe-away", database, broker)
    names = [f"r{n}" for n in range(60)]
    maintenance = create_engine(postgres_server.url, isolation_level="AUTOCOMMIT")
    with observing(observer):
        send_all(broker, observer.topics["observations"], [observation(name) for name in names[:20]])
        assert_exactly_once(engine, names[:20])
        with maintenance.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{engine.url.database}" ALLOW_CONNECTIONS false'))
            end = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            connection.execute(end, {"name": engine.url.database})
        send_all(broker, observer.topics["observations"], [observation(name) for name in names[20:]])
        send_all(broker, observer.topics["labels"], [label(name, "yes", datetime.now(UTC)) for name in names])
        tried = [f'fusion_retries_total{{action="writing {what}"}}' for what in ("observations", "labels")]
        wait_until(lambda: not [line for line in tried if line not in observer.get("/metrics")], SECONDS, "not tried")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            observer.get("/readyz")
        assert observer.get("/healthz") == "ok\n"
        with maintenance.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{engine.url.database}" ALLOW_CONNECTIONS true'))
        engine.dispose()
        assert_exactly_once(engine, names)
        wait_until(lambda: len(rows(engine, select(labels))) == len(names), SECONDS, "labels are missing")
    maintenance.dispose()


def test_observers_that_join_and_leave_share_the_work_once(database: str, engine: Engine, broker: str) -> None:
    first, second = (Observer("observe-shared", database, broker) for _ in range(2))
    names = [f"r{n:03}" for n in range(300)]

    def send(start: int, stop: int) -> None:
        send_all(broker, first.topics["observations"], [observation(name) for name in names[start:stop]])

    with observing(first):
        send(0, 100)
        with observing(second):
            send(100, 200)
            assert_exactly_once(engine, names[:200])
        send(200, 300)
        assert_exactly_once(engine, names)


def test_an_offset_moved_by_another_refuses_the_write_and_is_read_again(
    database: str, engine: Engine, broker: str
) -> None:
    observer = Observer("observe-stale", database, broker)
    topic, table = observer.topics["observations"], consumer_offsets
    with observing(observer):
        send_all(broker, topic, [observation(f"r{n}") for n in range(10)], partitions=1)
        assert_exactly_once(engine, [f"r{n}" for n in range(10)])
        with engine.begin() as connection:  # as if the group had been set back while it was running
            connection.execute(update(table).where(table.c.topic == topic).values(next_offset=5))
        send_all(broker, topic, [observation("r10")], partitions=1)
        assert_exactly_once(engine, [f"r{n}" for n in range(11)])
        wait_until(lambda: "fusion_stale_writes_total 1.0" in observer.get("/metrics"), SECONDS, "not counted")
    assert rows(engine, select(table.c.next_offset).where(table.c.topic == topic)) == [(11,)]

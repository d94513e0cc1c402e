"""The broker is away, gives no records, or has another log than before: the worker waits, or helps itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from kafka.admin import KafkaAdminClient, NewTopic
from sqlalchemy import create_engine, select

from inference.client import Client
from migrations.schema.prediction_log import offset_gaps
from tests.integration.faults.conftest import NewSubject
from tests.support.brokers import RestartableBroker
from tests.support.constant_model import Models
from tests.support.exactly_once import (
    SECONDS,
    assert_exactly_once,
    logged,
    metric,
    names,
    rows,
    send_all,
    traffic,
    wait_for_log,
)
from tests.support.worker import WorkerProcess, answers_ok, in_process, wait_until

# Longer than a session, and on Apache Kafka, which comes back with another process, as long as an outage may well be.
OUTAGE_SECONDS = {"embedded": 12, "apache": 60}


def test_a_broker_that_is_away_is_waited_for(
    models: Models,
    restartable_broker: RestartableBroker,
    request: pytest.FixtureRequest,
    database: str,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    seconds = OUTAGE_SECONDS[request.config.getoption("--broker")]
    engine = create_engine(database)
    worker = WorkerProcess(
        "away", database, restartable_broker.address, tmp_path / "log", {"CHECKPOINT": str(checkpoint)}
    )
    with in_process(worker), traffic(worker) as finish:
        wait_for_log(engine, 50)
        restartable_broker.pause()
        end = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() > end, 2 * seconds, "time stands still")
        assert worker.get("/healthz") == "ok\n"
        restartable_broker.resume()
        wait_for_log(engine, len(logged(engine)) + 50, 2 * SECONDS)
        assert_exactly_once(engine, worker, finish())
    engine.dispose()


class Deaf(Client):
    """A client that, once made deaf, stays in its group and gets no record any more, without an error."""

    opened: list[Deaf] = []  # noqa: RUF012
    deaf = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.opened.append(self)

    def poll(self, *arguments: Any, **options: Any) -> Any:
        if self.deaf:
            self.pause(*self.assignment())
        return super().poll(*arguments, **options)

    def close(self, *arguments: Any, **options: Any) -> None:
        if self in self.opened:
            self.opened.remove(self)
        super().close(*arguments, **options)


@pytest.fixture
def clients() -> Iterator[list[Deaf]]:
    """The open clients of workers that are started in this process."""
    with mock.patch("inference.consumer.Client", Deaf):
        yield Deaf.opened
    Deaf.opened.clear()


class LeftOut(Client):
    """A client whose first one of each topic never gets to join its group."""

    seen: set[str] = set()  # noqa: RUF012
    joins = True

    def subscribe(self, topics: list[str], **options: Any) -> None:
        self.joins = set(topics) <= self.seen
        self.seen.update(topics)
        super().subscribe(topics, **options)

    def poll(self, timeout_ms: float = 0, *arguments: Any, **options: Any) -> Any:
        if self.joins:
            return super().poll(timeout_ms, *arguments, **options)
        time.sleep(timeout_ms / 1000)
        return {}


class Hanging(Client):
    """A client whose calls do not return while `released` is clear."""

    released = threading.Event()

    def poll(self, *arguments: Any, **options: Any) -> Any:
        assert self.released.wait(2 * SECONDS)
        return super().poll(*arguments, **options)


def test_a_loop_that_hangs_fails_the_liveness_probe_until_it_comes_round(
    models: Models, new_subject: NewSubject
) -> None:
    worker, engine = new_subject("hanging", LIVENESS_SECONDS="2")
    sent = names("sent", 20)
    Hanging.released.set()
    with mock.patch("inference.consumer.Client", Hanging), in_process(worker):
        healthz = f"http://127.0.0.1:{worker.port}/healthz"
        Hanging.released.clear()
        try:
            wait_until(lambda: not answers_ok(healthz), SECONDS, "the probe does not see it")
        finally:
            Hanging.released.set()
        send_all(worker, sent)
        assert_exactly_once(engine, worker, sent)
        wait_until(lambda: answers_ok(healthz), SECONDS, "the probe still fails")


def test_a_member_that_its_group_leaves_out_joins_anew(
    models: Models, new_subject: NewSubject, caplog: pytest.LogCaptureFixture
) -> None:
    worker, engine = new_subject("out", STALL_SECONDS="5")
    sent = names("sent", 20)
    with (
        mock.patch("inference.consumer.Client", LeftOut),
        mock.patch("inference.consumer.REBALANCE_SECONDS", 2.0),
        in_process(worker),
    ):
        send_all(worker, sent)
        assert_exactly_once(engine, worker, sent)
    assert "the group gives this member no part: its consumer is rebuilt" in caplog.text


def test_a_consumer_that_gets_nothing_more_is_told_and_built_anew(
    models: Models, clients: list[Deaf], new_subject: NewSubject, caplog: pytest.LogCaptureFixture
) -> None:
    worker, engine = new_subject("deaf", STALL_SECONDS="5")
    before, after = names("before", 20), names("after", 20)
    with in_process(worker):
        send_all(worker, before)
        wait_for_log(engine, len(before))
        for client in list(clients):
            client.deaf = True
        wait_until(lambda: all(client.paused() for client in list(clients)), SECONDS, "they are not deaf yet")
        send_all(worker, after)
        assert_exactly_once(engine, worker, before + after)
        topic = worker.topics["requests"]
        assert metric(worker, f'fusion_consumer_stalls_total{{partition="0",topic="{topic}"}}') == 1
    assert "the consumer has stalled: it is rebuilt" in caplog.text


def test_a_topic_made_anew_under_a_worker_is_told_and_read_from_its_beginning(
    models: Models, new_subject: NewSubject
) -> None:
    """Apache Kafka refuses the position; the embedded broker answers it with silence, which the stall guard ends."""
    worker, engine = new_subject("anew", STALL_SECONDS="5")
    topic = worker.topics["requests"]
    before, after = names("before", 20), names("after", 10)
    with in_process(worker):
        send_all(worker, before)
        assert_exactly_once(engine, worker, before)
        admin = KafkaAdminClient(bootstrap_servers=worker.broker)
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics(), SECONDS, "it was not deleted")
        admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])
        admin.close()
        send_all(worker, after)
        wait_for_log(engine, len(before + after))
        assert_exactly_once(engine, worker, before + after)
        gaps = select(offset_gaps.c.partition, offset_gaps.c.kind, offset_gaps.c.stored_offset)
        found = sorted(map(tuple, rows(engine, gaps)))
        assert found == [(0, "reset", 10), (1, "reset", 10)]

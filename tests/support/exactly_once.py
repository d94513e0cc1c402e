"""Traffic for a worker that something is done to, and what must hold afterwards: every request logged, none twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from sqlalchemy import Engine, func, select, text

from migrations.schema import bins as schema_bins
from migrations.schema.prediction_log import consumer_offsets, modality_log, prediction_log
from migrations.schema.summaries import summaries
from tests.support.worker import WorkerProcess, encoded, read_all, request, wait_until

SECONDS = 120.0  # what a loaded machine may take for anything that is quick on an idle one


def names(prefix: str, count: int) -> list[str]:
    """So many request ids."""
    return [f"{prefix}-{number:04}" for number in range(count)]


def send_all(worker: WorkerProcess, messages: Iterable[Any], partition: int | None = None) -> None:
    """Send request ids, or whole messages, to one partition or in turn to the two; returns when the broker has all."""
    client = KafkaProducer(bootstrap_servers=worker.broker, enable_idempotence=False, linger_ms=5)
    try:
        sent = [
            client.send(
                worker.topics["requests"],
                value=encoded(request(message) if isinstance(message, str) else message),
                partition=number % 2 if partition is None else partition,
            )
            for number, message in enumerate(messages)
        ]
        for each in sent:
            each.get(timeout=SECONDS)
    finally:
        client.close()


@contextmanager
def traffic(worker: WorkerProcess, every: float = 0.01) -> Iterator[Callable[[], list[str]]]:
    """Send a request every so many seconds until left; the call stops it and returns the ids sent.

    What the broker does not take is sent again: it may then have it twice.
    """
    sent: list[str] = []
    stop = threading.Event()

    def deliver(client: KafkaProducer, request_id: str) -> None:
        while True:
            with suppress(KafkaError):
                value = encoded(request(request_id))
                client.send(worker.topics["requests"], value=value, partition=len(sent) % 2).get(timeout=20)
                return

    def run() -> None:
        client = KafkaProducer(bootstrap_servers=worker.broker, enable_idempotence=False, max_block_ms=5_000)
        while not stop.wait(every):
            request_id = f"traffic-{len(sent):05}"
            deliver(client, request_id)
            sent.append(request_id)
        client.close()

    thread = threading.Thread(target=run)
    thread.start()

    def finish() -> list[str]:
        stop.set()
        thread.join(timeout=2 * SECONDS)
        assert not thread.is_alive()
        return sent

    try:
        yield finish
    finally:
        finish()


def rows(engine: Engine, statement: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(statement).all())


def logged(engine: Engine) -> list[str]:
    """The request ids in the log, in order, each as often as it is there."""
    with engine.connect() as connection:
        return list(connection.scalars(select(prediction_log.c.request_id).order_by(prediction_log.c.request_id)))


def wait_for_log(engine: Engine, count: int, seconds: float = SECONDS) -> None:
    """Wait until so many requests are logged."""
    wait_until(lambda: len(logged(engine)) >= count, seconds, f"fewer than {count} requests were logged")


def assert_exactly_once(engine: Engine, worker: WorkerProcess, sent: Sequence[str], seconds: float = SECONDS) -> None:
    """What was sent is logged once, with both its modalities, and counted once; nothing is left to read."""
    expected = sorted(set(sent))
    ends = log_ends(worker)

    def done() -> bool:
        stored = stored_offsets(engine, worker)
        return all(stored.get(number, 0) >= end for number, end in ends.items()) and len(logged(engine)) >= len(
            expected
        )

    wait_until(
        done,
        seconds,
        lambda: (
            f"{len(logged(engine))} of {len(expected)} logged, read up to {stored_offsets(engine, worker)} of {ends}"
        ),
    )
    assert logged(engine) == expected
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(modality_log)) == 2 * len(expected)
        fused = connection.execute(select(summaries).where(summaries.c.modality == "fused")).all()
    assert sum(row.counts["rows"] for row in fused) == len(expected)
    assert sum(schema_bins.load(row.bins).rows for row in fused) == len(expected)


def stored_offsets(engine: Engine, worker: WorkerProcess) -> dict[int, int]:
    """The next offset of each partition of requests, as the database has it."""
    table = consumer_offsets.c
    where = (table.group_id == worker.group, table.topic == worker.topics["requests"])
    return dict(map(tuple, rows(engine, select(table.partition, table.next_offset).where(*where))))


def log_ends(worker: WorkerProcess) -> dict[int, int]:
    """The end of each partition of requests that holds something, as a fetch tells it."""
    ends = {number: _log_end(worker.broker, TopicPartition(worker.topics["requests"], number)) for number in (0, 1)}
    return {number: end for number, end in ends.items() if end}


def _log_end(broker: str, partition: TopicPartition) -> int:
    client = KafkaConsumer(bootstrap_servers=broker, group_id=None, enable_auto_commit=False)

    def told() -> bool:
        client.poll(timeout_ms=100, max_records=1)
        return client.highwater(partition) is not None

    try:
        client.assign([partition])
        client.seek(partition, 0)
        wait_until(told, SECONDS, "no end of the log was told")
        return int(client.highwater(partition))
    finally:
        client.close()


def answered(worker: WorkerProcess, ids: Iterable[str]) -> list[str]:
    """The request ids of all answers, once these have one each."""
    wanted = set(ids)
    found = read_all(
        worker.broker, worker.topics["predictions"], lambda m: wanted <= {each.key.decode() for each in m}, SECONDS
    )
    return sorted(each.key.decode() for each in found)


def metric(worker: WorkerProcess, name: str) -> float:
    """The sum of a metric's samples whose line begins with `name`; 0 where there is none."""
    lines = worker.get("/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name) and not line.startswith("#"))


def wait_for_inflight(worker: WorkerProcess, requests: int) -> None:
    """Wait until so many requests are read and not yet written."""
    wait_until(
        lambda: metric(worker, "fusion_inflight_requests ") == requests, SECONDS, f"{requests} requests in flight"
    )


def wait_for_retry(worker: WorkerProcess, action: str) -> None:
    """Wait until an action failed once more."""
    name = f'fusion_retries_total{{action="{action}"}}'
    seen = metric(worker, name)
    wait_until(lambda: metric(worker, name) > seen, SECONDS, f"no {action} was tried meanwhile")


def wait_for_lock(engine: Engine, sessions: int = 1) -> None:
    """Wait until so many sessions of the database wait for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    wait_until(lambda: rows(engine, waiting)[0][0] >= sessions, SECONDS, "nobody waits for a lock")

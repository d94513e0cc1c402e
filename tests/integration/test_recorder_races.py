"""Writers that race: whoever comes second writes nothing of it, and what failed can be written again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.exc import DBAPIError

from inference.errors import StaleWriteError
from inference.modalities.base import modalities
from inference.offsets import Move
from inference.outcome import Outcome
from inference.record import Partition
from inference.recorder import Recorder
from inference.summarise import WindowSummaries
from migrations.schema.prediction_log import consumer_offsets, dead_letters, modality_log, prediction_log, request_ids
from migrations.schema.summaries import summaries
from tests.support.exactly_once import logged
from tests.support.local import LocalPath
from tests.unit.inference.messages import message, record


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    yield engine
    engine.dispose()


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
    assert logged(engine) == ["a", "b", "c"]
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
    assert logged(engine) == ids
    assert count(engine, consumer_offsets) == 4


def test_a_failed_transaction_can_be_repeated_as_it_was(engine: Engine) -> None:
    ours = recorder(engine)
    ours.write(outcomes("a"), {WHERE: Move(None, 1)})
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE summaries ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
    batch = outcomes("b", "c", first=1)
    with pytest.raises(DBAPIError):
        ours.write(batch, {WHERE: Move(1, 3)})
    assert logged(engine) == ["a"]
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE summaries DROP CONSTRAINT full_disk")
    ours.write(batch, {WHERE: Move(1, 3)})
    assert logged(engine) == ["a", "b", "c"]
    assert counted(engine) == 3
    assert count(engine, summaries) == 3  # one accumulator's row per modality and fused, each the sum so far

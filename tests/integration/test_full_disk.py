"""A full disk refuses rows and moves no offset; freed, it takes the same batch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, Engine, create_engine, func, insert, select
from sqlalchemy.exc import OperationalError

from demo import servers
from demo.small_disk import SmallDisk, database_on_small_disk
from inference import offsets
from inference.offsets import Move
from inference.record import Partition
from migrations.schema.prediction_log import dead_letters

WHERE = Partition("requests", 0)
BATCH = 2000
DISK_FULL = "53100"  # SQLSTATE


@pytest.fixture
def small(postgres_server: servers.Database) -> Iterator[tuple[Engine, SmallDisk]]:
    with database_on_small_disk(postgres_server, "on_small_disk", "template") as (url, disk):
        engine = create_engine(url)
        yield engine, disk
        engine.dispose()


def write(connection: Connection, move: Move) -> None:
    offsets.advance(connection, "group", {WHERE: move}, datetime.now(UTC))
    values = [
        {"topic": "requests", "partition": 0, "offset": offset, "error_code": "bad", "error_detail": "x" * 500}
        for offset in range(move.next - BATCH, move.next)
    ]
    connection.execute(insert(dead_letters), values)


def seen(engine: Engine) -> tuple[int, int]:
    with engine.connect() as connection:
        rows = connection.scalar(select(func.count()).select_from(dead_letters)) or 0
        return rows, offsets.read(connection, "group", [WHERE])[WHERE].next


def test_a_batch_that_found_the_disk_full_lands_when_there_is_room(small: tuple[Engine, SmallDisk]) -> None:
    engine, disk = small
    with engine.begin() as connection:
        write(connection, Move(None, BATCH))
    disk.fill()
    for _ in range(2):
        with pytest.raises(OperationalError) as caught, engine.begin() as connection:
            write(connection, Move(BATCH, 2 * BATCH))
        assert getattr(caught.value.orig, "pgcode", None) == DISK_FULL
        assert seen(engine) == (BATCH, BATCH)
    disk.free()
    with engine.begin() as connection:
        write(connection, Move(BATCH, 2 * BATCH))
    assert seen(engine) == (2 * BATCH, 2 * BATCH)


def test_nothing_stays_mounted(postgres_server: servers.Database) -> None:
    with database_on_small_disk(postgres_server, "gone", "template", megabytes=32) as (_, disk):
        disk.fill()
        assert disk.folder.is_mount()
    assert not disk.folder.exists()

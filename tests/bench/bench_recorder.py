"""The recorder's cost by size of transaction, beside the server's own ceiling and the row-by-row INSERT it replaced.

All three write the same rows (one request: one row of `prediction_log`, two of `modality_log`, into tables with their
indexes), take turns, and commit each batch. `copy` is COPY of bytes made beforehand, with no ids claimed and no offset
moved: what the server can take at all. `insert` claims ids and inserts by SQLAlchemy's batched statements. None writes
summaries. CPU is that of this process and of all PostgreSQL processes, in µs per request.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sqlalchemy import Connection, Engine, Table, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from demo import servers
from inference.offsets import Move
from inference.outcome import Predicted
from inference.pgcopy import Fields, moments
from inference.record import Partition
from inference.recorder import Recorder
from inference.rows import modality_columns, prediction_columns
from migrations.connect import connect
from migrations.schema.prediction_log import modality_log, prediction_log, request_ids
from tests.support.predicted import TOPIC, NoSummaries, predicted

SIZES = (250, 1000, 4000)
REQUESTS = 4000  # of each way in a turn: enough for the 10 ms steps of the kernel's CPU accounts
TURNS = 3
ROWS_PER_REQUEST = 3
WHERE = Partition(TOPIC, 0)
Batch = list[Predicted]
Rows = list[dict[str, Any]]


def run() -> dict[str, Any]:
    """Medians over the turns, by way and size."""
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder, servers.postgres(Path(folder)) as server:
        url = server.create("bench")
        servers.migrate(url)
        engine = connect(url, application="bench")
        postmaster = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split()[0]))
        results = {str(size): _size(engine, postmaster, size) for size in SIZES}
        engine.dispose()
    return {"requests_in_a_transaction": results}


def _size(engine: Engine, postmaster: psutil.Process, size: int) -> dict[str, dict[str, float]]:
    recorder, rng = _OurWay(engine), np.random.default_rng(size)
    turns: dict[str, list[tuple[float, ...]]] = {}
    for _ in range(TURNS):
        batches = [[predicted(str(uuid.uuid4()), 0, rng) for _ in range(size)] for _ in range(REQUESTS // size)]
        made = [(_lines(prediction_columns(b, _now())), _lines(modality_columns(b, _now(), "k1"))) for b in batches]
        turns.setdefault("recorder", []).append(_measured(postmaster, recorder.write, batches))
        turns.setdefault("copy", []).append(_measured(postmaster, lambda each: _copy(engine, *each), made))
        read = [_read(engine, batch) for batch in batches]
        turns.setdefault("insert", []).append(_measured(postmaster, lambda each: _insert(engine, *each), read))
    return {way: _summed(measured) for way, measured in turns.items()}


def _measured(postmaster: psutil.Process, way: Callable[[Any], None], batches: Sequence[Any]) -> tuple[float, ...]:
    """Seconds per request: on the clock, of this process's CPU, of the server's."""
    server, client, started = _server_cpu(postmaster), time.process_time(), time.perf_counter()
    for batch in batches:
        way(batch)
    spent = time.perf_counter() - started, time.process_time() - client, _server_cpu(postmaster) - server
    return tuple(seconds / REQUESTS for seconds in spent)


def _server_cpu(postmaster: psutil.Process) -> float:
    seconds = 0.0
    for process in (postmaster, *postmaster.children()):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # a helper process that has just ended
            continue
        seconds += times.user + times.system
    return seconds


def _summed(turns: Sequence[tuple[float, ...]]) -> dict[str, float]:
    wall, client, server = (statistics.median(each) for each in zip(*turns, strict=True))
    return {
        "requests_per_second": round(1 / wall),
        "rows_per_second": round(ROWS_PER_REQUEST / wall),
        "client_cpu_us": round(client * 1e6, 1),
        "server_cpu_us": round(server * 1e6, 1),
    }


class _OurWay:
    """The recorder as the worker uses it, an offset moved in each transaction."""

    def __init__(self, engine: Engine) -> None:
        self._recorder = Recorder(engine, str(uuid.uuid4()), "k1", NoSummaries())
        self._offset: int | None = None

    def write(self, batch: Batch) -> None:
        move = Move(self._offset, (self._offset or 0) + len(batch))
        self._recorder.write(batch, {WHERE: move})
        self._offset = move.next


def _now() -> str:
    return moments([datetime.now(UTC)])[0]


def _lines(columns: dict[str, Fields]) -> tuple[str, bytes]:
    names = ", ".join(f'"{name}"' for name in columns)
    return names, "\n".join(map("\t".join, zip(*columns.values(), strict=True))).encode()


def _copy(engine: Engine, *made: tuple[str, bytes]) -> None:
    connection = engine.raw_connection()
    cursor = connection.cursor()
    for table, (names, lines) in zip((prediction_log, modality_log), made, strict=True):
        cursor.copy_expert(f"COPY {table.name} ({names}) FROM STDIN", io.BytesIO(lines), 1 << 16)
    connection.commit()
    connection.close()


def _read(engine: Engine, batch: Batch) -> tuple[Rows, Rows]:
    """A batch's rows as they were stored, to be inserted once more a little later."""
    ids = [row.request.request_id for row in batch]
    with engine.connect() as connection:
        predictions = _stored(connection, prediction_log, ids)
        return predictions[: len(ids)], _stored(connection, modality_log, ids)[: 2 * len(ids)]


def _stored(connection: Connection, table: Table, ids: list[str]) -> Rows:
    chosen = select(table).where(table.c.request_id.in_(ids)).order_by(table.c.logged_at)
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _insert(engine: Engine, predictions: Rows, parts: Rows) -> None:
    now = datetime.now(UTC)
    claims = [{"request_id": f"again-{row['request_id']}", "logged_at": now} for row in predictions]
    with engine.begin() as connection:
        claim = upsert(request_ids).on_conflict_do_nothing().returning(request_ids.c.request_id)
        connection.scalars(claim, claims).all()
        connection.execute(insert(prediction_log), [{**row, "logged_at": now} for row in predictions])
        connection.execute(insert(modality_log), [{**row, "logged_at": now} for row in parts])

"""What an evaluation costs by how much is logged, and a month of hourly windows judged again from summaries.

A database for each size of `BENCH_LOG_ROWS` (10000,1000000,50000000), its rows those of 30 days. In each of `TURNS`
turns every database has a window of an hour evaluated whole (every detector, findings stored, alerts moved), one after
the other and each by a process of its own, so that what else the machine does falls on all alike. Summaries and labels
are the same for all: 60 slots with the 64 bins of 16 features that a slot holds at most, and 2000 labels of answers
of all days. Seconds are the median; memory is the process's peak. 50 million rows take 20 GB of disk.
The backfill judges 720 hourly windows of slots of a minute, 480 requests an hour, on `BENCH_PROCESSES` (2) processes.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, insert, text

from demo import servers
from migrations.connect import connect
from migrations.schema.partitions import ensure_partitions
from migrations.schema.summaries import summaries
from monitor import wiring
from monitor.archive.folder import Archive
from monitor.backfill.base import Size, engines
from monitor.domain.window import Window
from monitor.settings import MonitorSettings
from monitor.storage.archived import SUMMARIES
from monitor.tasks.exporting import export
from monitor.telemetry import Metrics
from tests.support.monitored import NORMAL, T0, Stage, StoryClock, parts

SIZES = tuple(int(each) for each in os.environ.get("BENCH_LOG_ROWS", "10000,1000000,50000000").split(","))
PROCESSES = int(os.environ.get("BENCH_PROCESSES", "2"))
DAYS, TURNS, LABELS = 30, 11, 2000
HOP, SLOT, HOUR = timedelta(minutes=5), timedelta(minutes=1), timedelta(hours=1)
FULL, QUIET = 512, 8  # rows of a slot: 64 bins of 8, and one
AT_ONCE = 1_000_000
LOGGED = (
    'INSERT INTO prediction_log (request_id, logged_at, produced_at, topic, partition, "offset", schema_version, '
    "model_version, route, status, prediction, confidence, probabilities, degraded, queue_ms, preprocess_ms, "
    "encode_ms, fuse_ms, total_ms) SELECT 'r' || n, at, at, 't', 0, n, 1, 'v1', 'fused', 'ok', 'consistent', 0.9, "
    "'{0.9,0.05,0.05}', false, 1, 1, 1, 1, 4 "
    "FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n, "
    "LATERAL (SELECT CAST(:start AS timestamptz) + (n % 86400) * interval '30 seconds' AS at) AS moment"
)
KNOWN = (
    "INSERT INTO request_ids (request_id, logged_at) "
    "SELECT 'r' || n, CAST(:start AS timestamptz) + (n % 86400) * interval '30 seconds' "
    "FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n"
)
LABELLED = (
    "INSERT INTO labels (request_id, label, labelled_at, received_at, source) "
    "SELECT 'r' || n, 'consistent', :now, :now, 'ground_truth' "
    "FROM generate_series(CAST(:step AS bigint), CAST(:last AS bigint), CAST(:step AS bigint)) n"
)


def run() -> dict[str, Any]:
    """Both parts."""
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder, servers.postgres(Path(folder)) as server:
        url = server.create("backfill")
        servers.migrate(url)
        engine = connect(url, application="bench")
        found = {"backfill": backfill(engine, url)}
        engine.dispose()
        return {"evaluation": evaluations(server), **found}


def evaluations(server: servers.Database) -> dict[str, Any]:
    """One evaluation by rows of the log."""
    found = {}
    with ExitStack() as stack:
        alone = {}
        for size in SIZES:
            began = time.perf_counter()
            url = server.create(f"log_{size}")
            stored = _seed(url, size)
            found[size] = {"seeding_seconds": round(time.perf_counter() - began, 1), "database_gb": stored}
            process = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
            process.submit(_prepare, url).result()
            alone[size] = process
        taken: dict[int, list[float]] = {size: [] for size in SIZES}
        for turn in range(TURNS):
            for size, process in alone.items():
                taken[size].append(process.submit(_evaluate, T0 + turn * HOP).result())
                print(
                    f"turn {turn + 1} of {TURNS}, {size:,} rows: {taken[size][-1]:.3f} s", file=sys.stderr, flush=True
                )
        peaks = {size: process.submit(_peak_mb).result() for size, process in alone.items()}
    return {
        f"{size} rows": {"seconds": round(statistics.median(taken[size]), 3), "peak_mb": peaks[size], **found[size]}
        for size in SIZES
    }


def _seed(url: str, size: int) -> float:
    """A database with so many rows of the log, and what is judged; how large it is, in GB."""
    servers.migrate(url)
    engine = connect(url, application="bench")
    Stage(engine, StoryClock(T0)).register("v1")
    start = T0 - timedelta(days=DAYS)
    with engine.begin() as connection:
        ensure_partitions(connection, start.date(), DAYS)
    _summarise(engine, Window(T0 - HOUR, T0 + TURNS * HOP), FULL)
    for first in range(1, size + 1, AT_ONCE):
        last = min(size, first + AT_ONCE - 1)
        with engine.begin() as connection:
            for statement in (KNOWN, LOGGED):
                connection.execute(text(statement), {"first": first, "last": last, "start": start})
        print(f"logged {last:,} of {size:,} rows", file=sys.stderr, flush=True)
    with engine.begin() as connection:
        connection.execute(text(LABELLED), {"now": T0, "step": size // LABELS, "last": size})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE prediction_log, request_ids, labels, summaries"))
        stored = float(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)
    engine.dispose()
    return round(stored / 1e9, 2)


class _Monitor:
    """The monitor of a process that does nothing else."""

    def __init__(self, url: str) -> None:
        self._settings = _settings(url)
        self._clock = StoryClock(T0)
        self._detect = wiring.detect(self._settings, connect(url, application="bench"), Metrics(), self._clock)

    def evaluate(self, window_end: datetime) -> float:
        """Seconds of one evaluation of the window that ends then."""
        self._clock.at = window_end + timedelta(seconds=self._settings.grace_seconds)
        began = time.perf_counter()
        self._detect.run()
        return time.perf_counter() - began


_monitor: _Monitor | None = None


def _prepare(url: str) -> None:
    global _monitor  # one in each process of a pool
    _monitor = _Monitor(url)


def _evaluate(window_end: datetime) -> float:
    assert _monitor is not None
    return _monitor.evaluate(window_end)


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def backfill(engine: Engine, url: str) -> dict[str, Any]:
    """Seconds to export a month of summaries, and to judge its hourly windows."""
    stage = Stage(engine, StoryClock(T0))
    stage.register("v1")
    period = Window(T0 - timedelta(days=DAYS), T0)
    _summarise(engine, period, QUIET)
    task = wiring.backfill(_settings(url), engine)
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder:
        archive, began = Archive(Path(folder)), time.perf_counter()
        needed = task.needed(period, HOUR)
        rows = sum(saved.rows for saved in export(engine, archive, needed, frozenset({SUMMARIES})))
        exported = time.perf_counter() - began
        began = time.perf_counter()
        done = task.run(archive, period, every=HOUR, engine=engines()["local"], size=Size(PROCESSES))
        judged = time.perf_counter() - began
    return {
        "windows": done.added,
        "findings": done.findings,
        "summaries": rows,
        "processes": PROCESSES,
        "export_seconds": round(exported, 1),
        "backfill_seconds": round(judged, 1),
    }


def _settings(url: str) -> MonitorSettings:
    return MonitorSettings.model_validate({"database_url": url})


def _summarise(engine: Engine, period: Window, rows: int) -> None:
    """Summaries of every slot of the period; a hundred draws, in turn."""
    rng = np.random.default_rng(5)
    draws = [parts(rows, rng, NORMAL) for _ in range(100)]
    slots = int(period.length / SLOT)
    for start in range(0, slots, 1000):
        values = [
            _row(period.start + number * SLOT, number, modality, *part)
            for number in range(start, min(slots, start + 1000))
            for modality, part in draws[number % 100].items()
        ]
        with engine.begin() as connection:
            connection.execute(insert(summaries), values)


def _row(at: datetime, number: int, modality: str, counts: Mapping[str, int], payload: bytes) -> dict[str, Any]:
    return {
        "slot_start": at,
        "model_version": "v1",
        "modality": modality,
        "topic": "t",
        "partition": 0,
        "first_offset": number,
        "slot_seconds": 60,
        "worker_id": "w",
        "encoder_fingerprint": "e1",
        "counts": counts,
        "bins": payload,
        "updated_at": at,
    }

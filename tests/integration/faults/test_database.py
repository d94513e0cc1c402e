"""The database crashes, or its disk is full: what waits stays bounded, and the same rows land in the end."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from sqlalchemy import create_engine

from demo import servers
from demo.small_disk import database_on_small_disk
from tests.support.constant_model import Models
from tests.support.exactly_once import (
    assert_exactly_once,
    logged,
    metric,
    names,
    send_all,
    stored_offsets,
    traffic,
    wait_for_inflight,
    wait_for_log,
    wait_for_retry,
)
from tests.support.worker import WorkerProcess, answers_ok, in_process

MOST = 64


def test_a_database_that_crashes_in_mid_traffic_gets_the_same_rows_and_no_more_is_read_than_allowed(
    models: Models, checkpoint: Path, broker: str, tmp_path: Path
) -> None:
    settings = {"CHECKPOINT": str(checkpoint), "BATCH_SIZE": "8", "MAX_INFLIGHT_REQUESTS": str(MOST)}
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as name:
        with servers.postgres(Path(name)) as server:
            url = server.create("crashing")
            servers.migrate(url)
            servers.make_logins(url)
            engine = create_engine(url, pool_pre_ping=True)
            worker = WorkerProcess("crashing", url, broker, tmp_path / "log", settings)
            with in_process(worker), traffic(worker) as finish:
                wait_for_log(engine, 20)
                during = [names(f"outage-{number}", 3 * MOST) for number in range(2)]
                for ids in during:
                    with servers.crashed(Path(name)):
                        send_all(worker, ids)
                        wait_for_inflight(worker, MOST)
                        for _ in range(2):
                            wait_for_retry(worker, "writing")
                            assert metric(worker, "fusion_inflight_requests ") == MOST
                        assert metric(worker, "fusion_consumer_lag_messages") > 0
                        assert not answers_ok(f"http://127.0.0.1:{worker.port}/readyz")
                    wait_for_log(engine, len(logged(engine)) + len(ids))
                assert_exactly_once(engine, worker, [*finish(), *itertools.chain(*during)])
            engine.dispose()
        assert not (Path(name) / "postmaster.pid").exists(), "started again, and left behind"


def test_on_a_full_disk_offsets_stand_still_and_once_there_is_room_the_same_rows_land(
    models: Models, checkpoint: Path, postgres_server: servers.Database, broker: str, tmp_path: Path
) -> None:
    with database_on_small_disk(postgres_server, "faults_full", "template") as (url, disk):
        engine = create_engine(url)
        worker = WorkerProcess("full", url, broker, tmp_path / "log", {"CHECKPOINT": str(checkpoint)})
        before, during = names("before", 20), names("during", 500)
        with in_process(worker):
            send_all(worker, before)
            wait_for_log(engine, len(before))
            disk.fill()
            send_all(worker, during)
            wait_for_retry(worker, "writing")
            found = logged(engine), stored_offsets(engine, worker)
            assert len(found[0]) < len(before + during)  # rows that fit on pages there already may have been written
            for _ in range(2):
                wait_for_retry(worker, "writing")
                assert (logged(engine), stored_offsets(engine, worker)) == found
            disk.free()
            assert_exactly_once(engine, worker, before + during)
        engine.dispose()

"""Who owns a partition changes, or is in doubt: each request is logged once, by one of those who read it."""

from __future__ import annotations

from sqlalchemy import update

from migrations.schema.prediction_log import consumer_offsets
from tests.integration.faults.conftest import NewSubject
from tests.support.constant_model import Models
from tests.support.exactly_once import (
    assert_exactly_once,
    metric,
    names,
    send_all,
    wait_for_inflight,
    wait_for_lock,
)
from tests.support.worker import in_process


def test_a_refused_write_takes_back_what_was_read_of_other_partitions_too(
    models: Models, new_subject: NewSubject
) -> None:
    """Another moves partition 0 during a transaction with both; what waits behind it is of partition 1 alone."""
    worker, engine = new_subject("refused", BATCH_SIZE="10", BATCH_WAIT_MS="2000", WRITE_INTERVAL_MS="0")
    before, both, behind = names("before", 10), names("both", 10), names("behind", 10)
    with in_process(worker):
        send_all(worker, before)
        assert_exactly_once(engine, worker, before)
        with engine.begin() as connection:
            table = consumer_offsets.c
            moved = update(consumer_offsets).where(table.group_id == worker.group, table.partition == 0)
            connection.execute(moved.values(next_offset=0))
            send_all(worker, both)
            wait_for_lock(engine)
            send_all(worker, behind, partition=1)
            wait_for_inflight(worker, len(both + behind))
        assert_exactly_once(engine, worker, before + both + behind)
        assert metric(worker, "fusion_stale_writes_total") == 1

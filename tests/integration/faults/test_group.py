"""Who owns a partition changes, or is in doubt: each request is logged once, by one of those who read it."""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from sqlalchemy import update

from migrations.schema.prediction_log import consumer_offsets
from tests.integration.faults.conftest import NewSubject
from tests.support.constant_model import Models
from tests.support.exactly_once import (
    SECONDS,
    assert_exactly_once,
    logged,
    metric,
    names,
    send_all,
    traffic,
    wait_for_inflight,
    wait_for_lock,
)
from tests.support.worker import in_process, wait_until

POLL_INTERVAL = 10  # seconds, the least that can be set
# Which member leaves where it is present, and joins where it is not.
QUICK_CHANGES = (0, 1, 2, 0, 1, 2, 0, 2, 1, 0, 2, 0)
SETTLED_CHANGES = (0, 1, 0, 2)
CHANGE_SECONDS = 1.0


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


def test_a_pass_that_takes_longer_than_the_poll_interval_costs_no_membership_and_no_more_is_read(
    models: Models, new_subject: NewSubject
) -> None:
    limits = {"MAX_POLL_SECONDS": str(POLL_INTERVAL), "BATCH_SIZE": "8", "MAX_INFLIGHT_REQUESTS": "16"}
    worker, engine = new_subject("slow", **limits)
    ids = names("slow", 100)
    with in_process(worker):
        before = metric(worker, "fusion_rebalances_total")
        with models.held():
            send_all(worker, ids)
            wait_for_inflight(worker, 16)
            end = time.monotonic() + 1.2 * POLL_INTERVAL
            wait_until(lambda: time.monotonic() > end, SECONDS, "time stands still")
            assert metric(worker, "fusion_inflight_requests ") == 16
            assert logged(engine) == []
        assert_exactly_once(engine, worker, ids)
        assert metric(worker, "fusion_rebalances_total") == before
        assert metric(worker, "fusion_stale_writes_total") == 0


# A client that is closed while it connects leaves that socket to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_while_members_join_and_leave_nothing_is_lost_or_repeated(
    models: Models, new_subject: NewSubject, request: pytest.FixtureRequest
) -> None:
    """Three come and go, one every second; the embedded broker loses a group if it is not given time to settle."""
    settle = request.config.getoption("--broker") == "embedded"
    worker, engine = new_subject("restless", WRITE_INTERVAL_MS="100")
    members = [replace(worker, extra={**worker.extra, "WORKER_ID": f"member-{number}"}) for number in range(3)]
    present: dict[int, ExitStack] = {}
    with ExitStack() as everyone, traffic(worker) as finish:
        for number in SETTLED_CHANGES if settle else QUICK_CHANGES:
            if number in present:
                present.pop(number).close()
            else:
                present[number] = everyone.enter_context(ExitStack())
                present[number].enter_context(in_process(members[number], wait=settle))
            time.sleep(CHANGE_SECONDS)
        sent = finish()
        assert_exactly_once(engine, worker, sent)
    gc.collect()

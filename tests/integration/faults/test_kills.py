"""Workers killed, frozen and asked to go, at the moments when it matters: others take over and nothing shows."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import psutil
import pytest
from kafka.admin import KafkaAdminClient
from sqlalchemy import Engine

from tests.integration.faults.conftest import NewSubject
from tests.support.constant_model import constant_models
from tests.support.exactly_once import (
    SECONDS,
    answered,
    assert_exactly_once,
    logged,
    metric,
    names,
    send_all,
    stored_offsets,
    traffic,
    wait_for_inflight,
    wait_for_lock,
    wait_for_log,
)
from tests.support.worker import WorkerProcess, in_process, wait_until


@dataclass
class Case:
    """A worker with a group and a database of its own, its successor, and what is known of both."""

    worker: WorkerProcess
    successor: WorkerProcess
    engine: Engine
    sent: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)

    def send(self, prefix: str, count: int = 20) -> None:
        """Send more requests."""
        ids = names(prefix, count)
        send_all(self.worker, ids)
        self.sent += ids

    def signal(self, kind: signal.Signals) -> None:
        """Send the worker a signal."""
        assert self.worker.process is not None
        self.worker.process.send_signal(kind)

    @property
    def model(self) -> psutil.Process:
        """The worker's model process."""
        assert self.worker.process is not None
        (model,) = psutil.Process(self.worker.process.pid).children()
        return model


def kill_before_commit(case: Case) -> None:
    """Its transaction, all but its end, waits for a lock; the lock is let go once it is dead."""
    with case.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE summaries IN EXCLUSIVE MODE")
        case.send("second")
        wait_for_lock(case.engine)
        case.worker.stop(signal.SIGKILL)


def kill_after_commit(case: Case) -> None:
    """Stopped as soon as its rows are there, it goes on where it has told Kafka already, and is killed where not."""
    for attempt in range(50):
        case.send(f"second-{attempt}", 4)
        deadline = time.monotonic() + SECONDS
        while len(logged(case.engine)) < len(case.sent):
            assert time.monotonic() < deadline
        case.signal(signal.SIGSTOP)
        if committed(case.worker) != stored_offsets(case.engine, case.worker):
            case.worker.stop(signal.SIGKILL)
            return
        case.signal(signal.SIGCONT)
    raise AssertionError("each time it had told Kafka before it could be stopped")


def freeze(case: Case) -> None:
    """It has read requests, and is frozen before its model, which is frozen too, gives an answer."""
    case.model.suspend()
    case.send("second")
    wait_for_inflight(case.worker, 20)
    case.signal(signal.SIGSTOP)


FAULTS = {"before-commit": kill_before_commit, "after-commit": kill_after_commit, "frozen": freeze}
TO_GO = "asked-to-go"


@pytest.fixture(scope="module")
def workers(new_subject: NewSubject) -> Iterator[dict[str, Case]]:
    """A ready worker for each test. Those that are killed have no model process: theirs would end with them anyway."""
    cases = {}
    with ExitStack() as stack:
        for name in (*FAULTS, TO_GO):
            worker, engine = new_subject(name, WRITE_INTERVAL_MS="100", WORKER_ID="first")
            if name.endswith("commit"):
                worker = replace(worker, module="tests.support.constant_model")
            successor = replace(worker, extra={**worker.extra, "WORKER_ID": "second"})
            cases[name] = Case(worker, successor, engine)
            stack.callback(end, worker)
            worker.start(wait=False)
        for case in cases.values():
            wait_until(case.worker.ready, 3 * SECONDS, "a worker is not ready")
        yield cases


@pytest.fixture(scope="module")
def cases(workers: dict[str, Case]) -> Iterator[dict[str, Case]]:
    """The fault of each case has happened and its successor waits for the group to give the dead member up.

    That takes longest, so the cases wait at the same time.
    """
    for name, happen in FAULTS.items():
        case = workers[name]
        case.send("first")
        wait_for_log(case.engine, len(case.sent))
        happen(case)
        case.logged = logged(case.engine)
    with constant_models(), ExitStack() as stack:
        for name in FAULTS:
            stack.enter_context(in_process(workers[name].successor, wait=False))
        yield workers


def end(worker: WorkerProcess) -> None:
    if worker.process is not None and worker.process.poll() is None:
        worker.process.kill()
        worker.process.wait()


def committed(worker: WorkerProcess) -> dict[int, int]:
    """The next offset of each partition, as Kafka has it."""
    admin = KafkaAdminClient(bootstrap_servers=worker.broker)
    try:
        found = admin.list_group_offsets(worker.group)[worker.group]
        return {partition.partition: each.offset for partition, each in found.items()}
    finally:
        admin.close()


def test_asked_to_go_it_ends_its_work_and_tells_kafka_and_the_next_starts_there(workers: dict[str, Case]) -> None:
    case = workers[TO_GO]
    with traffic(case.worker) as finish:
        wait_for_log(case.engine, 50)
        assert case.worker.stop(signal.SIGTERM) == 0
        assert committed(case.worker) == stored_offsets(case.engine, case.worker)
        with constant_models(), in_process(case.successor):
            sent = finish()
            assert_exactly_once(case.engine, case.worker, sent)
            assert metric(case.successor, 'fusion_requests_total{model_version="",outcome="duplicate"}') == 0
    assert answered(case.worker, sent) == sorted(sent)


def test_killed_before_its_commit_it_left_nothing_and_its_batch_is_done_again(cases: dict[str, Case]) -> None:
    case = cases["before-commit"]
    assert case.logged == names("first", 20)
    assert_exactly_once(case.engine, case.worker, case.sent)


def test_killed_after_its_commit_before_it_told_kafka_nothing_is_done_again(cases: dict[str, Case]) -> None:
    case = cases["after-commit"]
    assert case.logged == sorted(case.sent)
    case.send("third")
    assert_exactly_once(case.engine, case.worker, case.sent)
    assert answered(case.worker, case.sent) == sorted(case.sent)


def test_frozen_and_awake_again_it_writes_nothing_that_another_has_written(cases: dict[str, Case]) -> None:
    case = cases["frozen"]
    assert case.logged == names("first", 20)
    assert_exactly_once(case.engine, case.worker, case.sent)
    case.model.resume()
    case.signal(signal.SIGCONT)
    wait_for_inflight(case.worker, 0)
    case.send("third")
    assert_exactly_once(case.engine, case.worker, case.sent)
    assert case.worker.stop(signal.SIGTERM) == 0

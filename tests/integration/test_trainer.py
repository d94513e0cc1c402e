"""Jobs, leases and a real retraining, on a real database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, update

from inference import jobs as trainer_jobs
from inference.jobs import ClaimedJob, LeaseLostError
from inference.trainer import Trainer
from migrations.connect import connect
from migrations.schema.monitoring import jobs

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
RESULT = {"champion": 1}


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = connect(database, application="test")
    yield engine
    engine.dispose()


def queue(engine: Engine, model: str = "fusion", deadline: datetime = NOW + timedelta(hours=1)) -> int:
    with engine.begin() as connection:
        statement = insert(jobs).values(model=model, state="queued", spec={"base_version": "a"}, deadline=deadline)
        found = connection.scalar(statement.returning(jobs.c.job_id))
    assert found is not None
    return int(found)


def row(engine: Engine, job_id: int) -> Any:
    with engine.connect() as connection:
        return connection.execute(select(jobs).where(jobs.c.job_id == job_id)).one()


def trainer(engine: Engine, work: Any, name: str = "t1", clock: Callable[[], datetime] = lambda: NOW) -> Trainer:
    return Trainer(engine, work, model="fusion", name=name, poll_seconds=0.01, heartbeat_seconds=0.02, clock=clock)


def hand_back(job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]) -> Mapping[str, Any]:
    progress(phase="training", step=3)
    return RESULT


def test_a_job_is_claimed_worked_on_and_handed_in(engine: Engine) -> None:
    job_id = queue(engine)
    assert trainer(engine, hand_back).run_once(threading.Event())
    done = row(engine, job_id)
    assert (done.state, done.result, done.claimed_by, done.attempts) == ("trained", RESULT, "t1", 1)
    assert done.progress == {"phase": "training", "step": 3}
    assert not trainer(engine, hand_back).run_once(threading.Event()), "a trained job waits for the gate, not for us"


def test_jobs_of_other_models_and_past_deadlines_are_left(engine: Engine) -> None:
    queue(engine, model="another")
    queue(engine, deadline=NOW)
    assert not trainer(engine, hand_back).run_once(threading.Event())


def test_two_trainers_never_hold_one_job(engine: Engine) -> None:
    queue(engine)
    with engine.begin() as first, engine.begin() as second:
        assert trainer_jobs.claim(first, "fusion", "t1", NOW) is not None
        assert trainer_jobs.claim(second, "fusion", "t2", NOW) is None, "locked by the first, so skipped"
    with engine.begin() as third:
        assert trainer_jobs.claim(third, "fusion", "t2", NOW) is None


def test_a_failed_attempt_ends_its_lease_and_says_why(engine: Engine) -> None:
    def fail(job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]) -> Mapping[str, Any]:
        raise FloatingPointError("training loss is nan")

    job_id = queue(engine)
    assert trainer(engine, fail).run_once(threading.Event())
    left = row(engine, job_id)
    assert (left.state, left.error) == ("running", "FloatingPointError: training loss is nan")
    assert left.lease_until == NOW, "over now, so that the monitor queues it again or fails it"


def test_heartbeats_prolong_the_lease_while_work_goes_on(engine: Engine) -> None:
    job_id = queue(engine)
    times = iter([NOW, *[NOW + timedelta(seconds=30)] * 10_000])
    beaten = threading.Event()

    def wait(job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]) -> Mapping[str, Any]:
        for _ in range(500):
            if row(engine, job_id).lease_until == NOW + timedelta(seconds=30) + trainer_jobs.LEASE:
                beaten.set()
                break
            threading.Event().wait(0.01)
        return RESULT

    trainer(engine, wait, clock=lambda: next(times)).run_once(threading.Event())
    assert beaten.is_set()


def test_a_trainer_whose_job_was_taken_writes_nothing(engine: Engine) -> None:
    """Suspended past its lease, the job went to another trainer; then the first one wakes up and finishes."""
    job_id = queue(engine)

    def lose(job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]) -> Mapping[str, Any]:
        with engine.begin() as connection:
            connection.execute(update(jobs).values(claimed_by="t2", attempts=2))
        return RESULT

    assert trainer(engine, lose).run_once(threading.Event())
    kept = row(engine, job_id)
    assert (kept.state, kept.claimed_by, kept.result) == ("running", "t2", None)
    for stale in (held(job_id, "t1", attempt=1), held(job_id, "t2", attempt=1)):
        with engine.begin() as connection, pytest.raises(LeaseLostError):
            trainer_jobs.hand_in(connection, stale, RESULT)
        with engine.begin() as connection, pytest.raises(LeaseLostError):
            trainer_jobs.hold(connection, stale)
    with engine.begin() as connection:
        trainer_jobs.hold(connection, held(job_id, "t2", attempt=2))
    assert row(engine, job_id).result is None


def test_the_time_of_every_attempt_counts_for_each_process_whatever_became_of_it(engine: Engine) -> None:
    job_id = queue(engine)
    now = NOW
    for attempt, (minutes, over) in enumerate(((3, True), (5, False)), 1):
        with engine.begin() as connection:
            claimed = trainer_jobs.claim(connection, "fusion", "t", now, processes=4)
            assert claimed is not None
            trainer_jobs.heartbeat(connection, claimed, now + timedelta(minutes=minutes), {})
            if over:
                trainer_jobs.let_go(connection, claimed, "out of memory", now + timedelta(minutes=minutes + 1))
                connection.execute(update(jobs).values(state="queued"))
        now += timedelta(minutes=20)  # nobody computes while it waits
        assert row(engine, job_id).compute_seconds == 4 * 60 * (4 if attempt == 1 else 4 + 5)


def held(job_id: int, trainer: str, *, attempt: int) -> ClaimedJob:
    return ClaimedJob(job_id, "fusion", {}, attempt, NOW + timedelta(hours=1), trainer)


def test_a_trainer_that_was_sent_for_one_job_leaves_the_others(engine: Engine) -> None:
    job_id = queue(engine)
    assert not trainer(engine, hand_back).run_once(threading.Event(), job_id + 1)
    assert trainer(engine, hand_back).run_once(threading.Event(), job_id)


def test_a_job_that_is_cancelled_while_it_runs_stops_its_trainer(engine: Engine) -> None:
    job_id = queue(engine)
    stopped = threading.Event()

    def cancelled(job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]) -> Mapping[str, Any]:
        with engine.begin() as connection:
            connection.execute(update(jobs).values(state="cancelled", lease_until=None))
        for _ in range(500):
            if should_stop():
                stopped.set()
                break
            threading.Event().wait(0.01)
        return RESULT

    assert trainer(engine, cancelled).run_once(threading.Event(), job_id)
    assert stopped.is_set()
    left = row(engine, job_id)
    assert (left.state, left.result, left.lease_until, left.error) == ("cancelled", None, None, None)


def test_a_deadline_that_passes_stops_the_work(engine: Engine) -> None:
    job_id = queue(engine, deadline=NOW + timedelta(seconds=10))
    later = threading.Event()

    def clock() -> datetime:
        return NOW + timedelta(seconds=11) if later.is_set() else NOW

    def outlast(job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]) -> Mapping[str, Any]:
        later.set()
        assert should_stop()
        return {}

    assert trainer(engine, outlast, clock=clock).run_once(threading.Event())
    assert row(engine, job_id).state == "running", "the monitor fails it: this trainer only lets go"
    assert row(engine, job_id).result is None


def test_stopping_lets_the_job_in_hand_go(engine: Engine) -> None:
    job_id = queue(engine)
    stop = threading.Event()

    def interrupted(
        job: ClaimedJob, progress: Callable[..., None], should_stop: Callable[[], bool]
    ) -> Mapping[str, Any]:
        stop.set()
        assert should_stop()
        return {}

    trainer(engine, interrupted).run(stop)
    left = row(engine, job_id)
    assert (left.state, left.lease_until, left.result) == ("running", NOW, None)

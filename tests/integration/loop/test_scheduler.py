"""One leader among monitors, tasks that fail and come again, and a clock that jumps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import text

from monitor.domain.clock import SystemClock
from monitor.tasks.leader import Leadership
from monitor.tasks.scheduler import Scheduler, Task
from monitor.telemetry import Metrics
from tests.support.monitored import Stage

DEADLINE = 20.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def running(scheduler: Scheduler) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=scheduler.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=DEADLINE)
        assert not thread.is_alive()


def kill_leader(stage: Stage) -> None:
    """Cut the connection that holds the lock, as a network or a server restart would."""
    with stage.engine.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))


def test_one_leads_the_other_takes_over_when_it_leaves(stage: Stage) -> None:
    first, second = Leadership(stage.engine, "fusion"), Leadership(stage.engine, "fusion")
    other_model = Leadership(stage.engine, "another")
    assert [first.hold(), second.hold(), first.hold(), other_model.hold()] == [True, False, True, True]
    first.release()
    assert second.hold()
    assert not first.hold()
    second.release()
    other_model.release()


def test_a_lost_connection_is_lost_leadership(stage: Stage) -> None:
    first, second = Leadership(stage.engine, "fusion"), Leadership(stage.engine, "fusion")
    assert first.hold()
    kill_leader(stage)
    until(second.hold)
    assert not first.hold()
    second.release()


def test_two_schedulers_have_one_effect_each_time_and_the_standby_takes_over(stage: Stage) -> None:
    ran: list[str] = []

    def scheduler(name: str) -> Scheduler:
        task = Task("work", 0.05, lambda: ran.append(name))
        return Scheduler([task], Leadership(stage.engine, "fusion"), Metrics(), SystemClock())

    with running(scheduler("second")):
        with running(scheduler("first")):
            until(lambda: len(ran) >= 5)
            leader = set(ran)
            assert len(leader) == 1
        if leader == {"first"}:
            until(lambda: "second" in ran)
    assert sorted(set(ran)) in (["first", "second"], ["second"])


def test_a_task_that_fails_is_counted_and_comes_again_and_holds_no_other(stage: Stage) -> None:
    metrics = Metrics()
    good: list[int] = []

    def fail() -> None:
        raise RuntimeError("boom")

    tasks = [Task("bad", 0.05, fail), Task("good", 0.05, lambda: good.append(1))]
    with running(Scheduler(tasks, Leadership(stage.engine, "fusion"), metrics, SystemClock())):
        until(lambda: (metrics.registry.get_sample_value(*errors_of("bad")) or 0) >= 3 and len(good) >= 3)
    assert metrics.registry.get_sample_value("fusion_scheduler_leader") == 0


def errors_of(task: str) -> tuple[str, dict[str, str]]:
    return "fusion_scheduler_runs_total", {"job": task, "result": "error"}


def test_a_clock_that_jumps_forward_by_an_hour_and_back_does_not_stop_tasks(stage: Stage) -> None:
    """The scheduler plans by its own reading of the wall clock; after a jump it must plan anew."""
    clock = JumpingClock()
    ran: list[int] = []
    scheduler = Scheduler(
        [Task("work", 3600, lambda: ran.append(1))], Leadership(stage.engine, "fusion"), Metrics(), clock
    )
    with running(scheduler):
        until(lambda: len(ran) == 1)
        clock.offset = timedelta(hours=-1)
        until(lambda: len(ran) == 2)
        time.sleep(1.2)
        assert len(ran) == 2, "one jump, one run"


class JumpingClock(SystemClock):
    """The machine's clock, set off by as much as a test says."""

    offset = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.offset

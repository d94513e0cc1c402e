"""A former leader, however it came to be one, writes nothing: epochs, leases and a process that is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, insert, text
from sqlalchemy.exc import DBAPIError

from migrations.connect import connect
from migrations.schema.monitoring import audit_log
from monitor import wiring
from monitor.domain.clock import SystemClock
from monitor.errors import FencedError
from monitor.tasks.leader import Leadership
from monitor.tasks.scheduler import Scheduler, Task
from monitor.telemetry import Metrics
from tests.integration.loop.test_scheduler import kill_leader, running, until
from tests.support.monitored import Stage, StoryClock, settings

ROOT = Path(__file__).parents[3]
SHORT = timedelta(seconds=0.5)


def write(engine: Engine, actor: str) -> None:
    with engine.begin() as connection:
        connection.execute(insert(audit_log).values(actor=actor, action="written", subject="", details={}))


def written(stage: Stage, actor: str) -> int:
    return int(stage.scalar(f"SELECT count(*) FROM audit_log WHERE actor = '{actor}'"))


def epoch(stage: Stage) -> int:
    return int(stage.scalar("SELECT epoch FROM leaders WHERE model = 'fusion'"))


def test_each_leader_has_a_higher_epoch_and_the_former_one_cannot_write(stage: Stage) -> None:
    first, second = Leadership(stage.engine, "fusion"), Leadership(stage.engine, "fusion")
    by_first, by_second = first.fence(stage.engine), second.fence(stage.engine)
    assert first.hold()
    write(by_first, "first")
    assert epoch(stage) == 1
    kill_leader(stage)
    until(second.hold)
    assert epoch(stage) == 2
    with pytest.raises(FencedError, match="another monitor leads for model 'fusion': this one led in epoch 1"):
        write(by_first, "late")
    write(by_second, "second")
    assert [written(stage, actor) for actor in ("first", "late", "second")] == [1, 0, 1]
    assert not first.hold()
    second.release()
    assert first.hold()
    write(by_first, "first")
    assert (epoch(stage), written(stage, "first")) == (3, 2)
    first.release()


def test_a_thread_that_began_in_an_older_epoch_cannot_write_though_its_process_leads_again(stage: Stage) -> None:
    leadership = Leadership(stage.engine, "fusion")
    fenced = leadership.fence(stage.engine)
    began, led_again = threading.Event(), threading.Event()
    ended: list[type[Exception] | None] = []

    def task() -> None:
        assert leadership.hold()
        began.set()
        led_again.wait()
        try:
            write(fenced, "old thread")
            ended.append(None)
        except FencedError as error:
            ended.append(type(error))

    thread = threading.Thread(target=task)
    thread.start()
    began.wait()
    leadership.release()
    assert leadership.hold()
    led_again.set()
    thread.join()
    assert ended == [FencedError]
    write(fenced, "new thread")
    leadership.release()


def test_who_never_led_cannot_write_and_reads_nothing(stage: Stage) -> None:
    fenced = Leadership(stage.engine, "fusion").fence(stage.engine)
    with pytest.raises(FencedError, match="led in epoch None"):
        write(fenced, "nobody")
    with pytest.raises(FencedError), fenced.connect() as connection:
        connection.execute(text("SELECT 1"))


def test_a_new_leader_waits_for_what_was_proven_before_it(stage: Stage) -> None:
    """What a leader has begun to write it may finish: the next one comes after it, never in between."""
    first, second = Leadership(stage.engine, "fusion"), Leadership(stage.engine, "fusion")
    fenced = first.fence(stage.engine)
    assert first.hold()
    with fenced.begin() as connection:
        kill_leader(stage)
        taking = threading.Thread(target=lambda: until(second.hold))
        taking.start()
        waits = "wait_event_type = 'Lock' AND query LIKE 'INSERT INTO leaders%'"
        until(lambda: stage.scalar(f"SELECT count(*) FROM pg_stat_activity WHERE {waits}") == 1)
        connection.execute(insert(audit_log).values(actor="first", action="written", subject="", details={}))
    taking.join()
    assert (written(stage, "first"), epoch(stage)) == (1, 2)
    second.release()


def test_a_transaction_whose_process_sleeps_is_ended_by_the_server_and_leads_no_longer(stage: Stage) -> None:
    first = Leadership(stage.engine, "fusion", longest_pause=SHORT)
    second = Leadership(stage.engine, "fusion")
    fenced = first.fence(stage.engine)
    assert first.hold()

    def sleep_in_a_transaction() -> None:
        with fenced.begin() as connection:
            connection.execute(insert(audit_log).values(actor="first", action="written", subject="", details={}))
            kill_leader(stage)
            until(second.hold)

    with pytest.raises(DBAPIError):
        sleep_in_a_transaction()
    assert written(stage, "first") == 0
    second.release()


def test_a_leader_that_is_not_heard_of_for_its_lease_leads_no_longer(stage: Stage) -> None:
    silent, heard = Leadership(stage.engine, "silent", lease=SHORT), Leadership(stage.engine, "heard", lease=SHORT)
    assert silent.hold()
    assert heard.hold()
    other = Leadership(stage.engine, "silent")

    def taken() -> bool:
        heard.renew()
        return other.hold()

    until(taken)
    assert not Leadership(stage.engine, "heard").hold()
    for one in (heard, other):
        one.release()


def test_the_scheduler_keeps_the_lease_while_a_task_takes_long(stage: Stage) -> None:
    leadership = Leadership(stage.engine, "fusion", lease=2 * SHORT)
    metrics = Metrics()
    fenced = leadership.fence(stage.engine)

    def slow() -> None:
        write(fenced, "before")
        time.sleep(4 * SHORT.total_seconds())
        write(fenced, "after")

    with running(Scheduler([Task("slow", 3600, slow)], leadership, metrics, SystemClock())):
        until(lambda: written(stage, "after") == 1)
    assert epoch(stage) == 1


def test_a_fenced_task_is_counted_as_that(stage: Stage) -> None:
    leadership, metrics = Leadership(stage.engine, "fusion"), Metrics()
    fenced = leadership.fence(stage.engine)

    def overtaken() -> None:
        with stage.engine.begin() as connection:
            connection.execute(text("UPDATE leaders SET epoch = epoch + 1"))
        write(fenced, "late")

    labels = {"job": "work", "result": "fenced"}
    with running(Scheduler([Task("work", 3600, overtaken)], leadership, metrics, SystemClock())):
        until(lambda: metrics.registry.get_sample_value("fusion_scheduler_runs_total", labels) == 1)
    assert written(stage, "late") == 0


def test_every_task_of_the_leader_is_fenced(stage: Stage, database: str) -> None:
    stage.register("v1")
    monitor = wiring.Monitor(settings(database), StoryClock())
    led = [task for task in monitor.scheduler.tasks if task.leader_only]
    deciding = {"detect", "slo", "notify", "jobs", "retrain", "rollout"}
    assert {task.name for task in led} == deciding | {"report", "security", "maintenance", "retention"}
    for task in led:
        with pytest.raises(FencedError):
            task.run()
    assert monitor.leadership.hold()
    for task in led:
        task.run()
    monitor.close()


@contextmanager
def child(database: str, log: Path) -> Iterator[tuple[int, Callable[[], list[str]]]]:
    """A leading process: its id, and what gives the words it has said."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.leading_child", database, str(SHORT.total_seconds())],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
        )
    try:
        yield process.pid, lambda: log.read_text().split("\n")[:-1]
    finally:
        process.kill()
        process.wait()


def test_a_leader_that_is_stopped_and_resumed_cannot_write(stage: Stage, database: str, tmp_path: Path) -> None:
    with child(database, tmp_path / "words") as (pid, words):
        until(lambda: written(stage, str(pid)) > 3)
        os.kill(pid, signal.SIGSTOP)
        engine = connect(database, application="successor")
        successor = Leadership(engine, "fusion")
        until(successor.hold)
        before = written(stage, str(pid))
        os.kill(pid, signal.SIGCONT)
        until(lambda: words()[-1] == "stood by")
        assert [word for word in words() if word not in ("stood by", "cut off")] == ["led", "fenced"]
        assert written(stage, str(pid)) == before
        assert epoch(stage) == 2
        successor.release()
        engine.dispose()


def test_lost_leadership_is_told_once_however_often_tasks_ask(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> list[str]:
        return [
            each.getMessage() for each in caplog.records if each.name == "monitor.tasks.leader" and each.levelno > 20
        ]

    away = Leadership(create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none"), "fusion")
    for _ in range(3):
        assert not away.hold()
        away.renew()
    assert warnings() == ["leadership is not held: OperationalError"]
    again = Leadership(stage.engine, "fusion")
    assert again.hold()
    for _ in range(2):
        kill_leader(stage)
        until(again.hold)
    assert len(warnings()) == 3
    again.release()

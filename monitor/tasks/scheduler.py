"""Runs the tasks on their intervals, most on the leading monitor only; a task that fails is run again next time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from monitor.domain.clock import Clock
from monitor.errors import FencedError
from monitor.tasks.leader import Leadership
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

# The scheduler plans by the wall clock: a jump larger than this plans every task anew, so that none waits out an hour.
CLOCK_JUMP_SECONDS = 2.0
TICK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do every `seconds`: by the leader alone, or by every monitor. `stop` ends a long run early."""

    name: str
    seconds: float
    run: Callable[[], None]
    leader_only: bool = True
    stop: Callable[[], None] | None = None


class Scheduler:
    """Owns the threads that run tasks. One run of a task at a time; runs that were missed become one."""

    def __init__(self, tasks: Sequence[Task], leadership: Leadership, metrics: Metrics, clock: Clock) -> None:
        self.tasks = tasks
        self._leadership = leadership
        self._metrics = metrics
        self._clock = clock
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(max_workers=len(tasks))},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        # APScheduler warns on every skipped run; a run that takes longer than its interval shows in our metrics.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)

    def run(self, stop: threading.Event) -> None:
        """Run tasks until `stop` is set, then wait for those in progress and give leadership up."""
        for task in self.tasks:
            self._scheduler.add_job(
                self._run_one, "interval", (task,), seconds=task.seconds, id=task.name, next_run_time=self._clock.now()
            )
        self._scheduler.start()
        try:
            self._watch(stop)
        finally:
            for task in self.tasks:
                if task.stop is not None:
                    task.stop()
            self._scheduler.shutdown(wait=True)
            self._leadership.release()
            self._metrics.leader.set(0)

    def _watch(self, stop: threading.Event) -> None:
        offset = self._offset()
        heard = self._clock.monotonic()
        while not stop.wait(timeout=TICK_SECONDS):
            if self._clock.monotonic() - heard >= self._leadership.lease.total_seconds() / 3:
                self._leadership.renew()  # however long tasks take
                heard = self._clock.monotonic()
            now = self._offset()
            if abs(now - offset) > CLOCK_JUMP_SECONDS:
                _log.warning("the clock jumped by %.0f s: every task is planned anew", now - offset)
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=self._clock.now())
                offset = now

    def _offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def _run_one(self, task: Task) -> None:
        if task.leader_only and not self._leads():
            self._metrics.runs.labels(task.name, "standby").inc()
            return
        try:
            task.run()
        except FencedError as error:
            _log.warning("task %s stopped: %s", task.name, error)
            self._metrics.runs.labels(task.name, "fenced").inc()
            return
        except Exception:  # noqa: BLE001 - the edge of a task: whatever failed, the next run must come
            _log.exception("task %s failed and will be run again", task.name)
            self._metrics.runs.labels(task.name, "error").inc()
            return
        self._metrics.runs.labels(task.name, "ok").inc()
        self._metrics.last_success.labels(task.name).set(self._clock.now().timestamp())

    def _leads(self) -> bool:
        leads = self._leadership.hold()
        self._metrics.leader.set(leads)
        return leads

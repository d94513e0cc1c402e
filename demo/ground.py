"""What faults are injected into: a deployment, its traffic, and what it says of itself while parts of it are away."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from demo.deployment import Deployment
from demo.processes import ProcessError, Program, console_script
from demo.stage import TICK_SECONDS, Pace
from demo.traffic import Labeller, Traffic
from demo.view import View

MONITORS = ("monitor", "monitor-2")
LEADER_SECONDS = 60.0
OVER = ("promoted", "rejected", "failed", "cancelled")


@dataclass(slots=True)
class Ground:
    """Everything that a fault, and whoever watches it, may touch."""

    deployment: Deployment
    traffic: Traffic
    labeller: Labeller
    engine: Engine
    view: View
    pace: Pace
    seed: int
    number: int = 0
    _seeds: int = field(default=0, init=False)

    def next_seed(self) -> int:
        """A seed that no other part of the day has."""
        self._seeds += 1
        return self.seed + 1000 + self._seeds

    def value(self, query: str, **values: Any) -> Any:
        """The first value that the database answers with; None without a row, and while it cannot be asked."""
        try:
            with self.engine.connect() as connection:
                return connection.execute(text(query), values).scalar()
        except DBAPIError:
            return None

    def metric(self, name: str) -> float:
        """The sum of the worker's samples of that name, one of a single label set where it is named; 0 without any."""
        try:
            with urllib.request.urlopen(self.deployment.worker.url("/metrics"), timeout=2) as answer:
                page = answer.read().decode()
        except (urllib.error.URLError, OSError):
            return 0.0
        samples = [each for family in text_string_to_metric_families(page) for each in family.samples]
        return sum(each.value for each in samples if name in (each.name, _written(each.name, each.labels)))

    def leader(self) -> Program:
        """The monitor that leads. Raises ProcessError where none has for longer than a lease."""
        monitors = [self.deployment.named(name) for name in MONITORS]

        def leading() -> list[Program]:
            return [each for each in monitors if each.answers("/metrics", holding="fusion_scheduler_leader 1.0")]

        if not self.await_("no monitor leads yet", lambda: bool(leading()), LEADER_SECONDS) or not (found := leading()):
            raise ProcessError(f"no monitor has led for {LEADER_SECONDS:.0f} s")
        return found[0]

    def epoch(self) -> int:
        """How often leadership has changed hands."""
        return int(self.value("SELECT max(epoch) FROM leaders") or 0)

    def start_job(self, reason: str) -> int:
        """Ask for a retrain as a person would; the job's number."""
        command = [console_script("fusionwatch-monitor"), "jobs", "retrain", "--reason", reason]
        api = self.deployment.named("api")
        subprocess.run(command, env=api.whole_environment(), check=True, capture_output=True, timeout=60)
        return int(self.value("SELECT max(job_id) FROM jobs"))

    def saved_job(self, number: int) -> bool:
        """Whether a job's training has gone beyond its first save."""
        return int(self.value("SELECT (progress ->> 'step')::int FROM jobs WHERE job_id = :n", n=number) or 0) > 15

    def attempts(self, number: int) -> int:
        """How often a job was begun."""
        return int(self.value("SELECT attempts FROM jobs WHERE job_id = :n", n=number) or 0)

    def job_is_over(self, number: int) -> bool:
        """Whether a job has ended, in whichever way."""
        return self.value("SELECT state FROM jobs WHERE job_id = :n", n=number) in OVER

    def caught_up(self, sent: int) -> bool:
        """Whether as many messages as had been sent are in the log or dead letters."""
        done = self.value("SELECT (SELECT count(*) FROM prediction_log) + (SELECT count(*) FROM dead_letters)")
        return done is not None and done >= sent

    def hold(self, seconds: float, note: str, look: Callable[[], None] = lambda: None) -> None:
        """Let time pass; look each time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.view.note(self.number, f"{note} ({left:.0f} s)")
            look()
            self._tick()

    def await_(self, note: str, true: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is so; False at the deadline."""
        end = time.monotonic() + seconds
        while not (found := true()) and (left := end - time.monotonic()) > 0:
            self.view.note(self.number, f"{note} (at most {left:.0f} s more)")
            self._tick()
        return found

    def _tick(self) -> None:
        if self.traffic.error is not None:
            raise self.traffic.error
        for program in self.deployment.programs:
            program.check()
        time.sleep(TICK_SECONDS)


def _written(name: str, labels: dict[str, str]) -> str:
    return f"{name}{{{','.join(f'{key}={chr(34)}{value}{chr(34)}' for key, value in sorted(labels.items()))}}}"

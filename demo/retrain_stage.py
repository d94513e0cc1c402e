"""The stage of the closed loop's story: settings that make minutes of days, and what its steps may touch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, text

from demo import servers
from demo.cameras import NEW_CAMERA
from demo.deployment import Deployment, as_variables, fill_store
from demo.examples import example_stream
from demo.observe import said
from demo.processes import Program, console_script
from demo.results import StepResult
from demo.stage import Stage

TEST_EXAMPLES = 300
STEPS, SAVE_EVERY = 60, 10
OVER = ("promoted", "rejected", "failed", "cancelled")
COMMAND_SECONDS = 240


def settings(folder: Path) -> dict[str, object]:
    """What is otherwise than in the other story: every stage is switched on, and labels decide in shadow.

    Nothing is said of latency here: champion, challenger and trainer share the cores of one machine.
    """
    return {
        "test_store": folder / "test",
        "label_window_seconds": 60,
        "retrain_min_labels": 600,
        "retrain_min_labels_per_class": 100,
        "retrain_max_rows": 900,
        "fit_steps": STEPS,
        "fit_seconds": 600,
        "fit_save_every": SAVE_EVERY,
        "gate_max_slowdown": 100,
        "rollout_stages": '["shadow", "canary"]',
        "rollout_check_seconds": 2,
        "shadow_percent": 100,
        "shadow_labels_needed": True,
        "canary_steps": "[25, 100]",
        "canary_passes": 2,
        "rollout_min_rows": 40,
        "rollout_min_labels": 20,
        "rollout_max_disagreement": 0.6,
        "rollout_max_slowdown": 100,
    }


def prepare(folder: Path, seed: int) -> None:
    """Write the frozen test set: scenes of the new camera with their true labels."""
    (folder / "test").mkdir(parents=True, exist_ok=True)
    fill_store(folder / "test", example_stream(seed + 300, NEW_CAMERA), TEST_EXAMPLES, "test")


@contextmanager
def second_monitor(deployment: Deployment, seconds: float) -> Iterator[Program]:
    """A second monitor of the same model, which stands by."""
    first = deployment.named("monitor")
    port = servers.free_port()
    second = replace(
        first,
        name="monitor-2",
        environment={**first.environment, **as_variables({"monitor_port": port})},
        log=deployment.folder / "monitor-2.log",
        ready_url=f"http://127.0.0.1:{port}/readyz",
    )
    second.start()
    try:
        second.wait_ready(seconds)
        deployment.programs.append(second)
        yield second
    finally:
        second.stop()


@dataclass(slots=True)
class Loop:
    """What a step may touch. `job` is the newest job's number as the story knows it."""

    stage: Stage
    deployment: Deployment
    engine: Engine

    @property
    def trainer(self) -> Program:
        """The trainer's program."""
        return self.deployment.named("trainer")

    def command(self, *words: str, **changes: object) -> str:
        """What a command of the monitor says; `changes` are settings for this call alone."""
        environment = {**os.environ, **self.deployment.named("api").environment, **as_variables(changes)}
        done = subprocess.run(
            [console_script("fusionwatch-monitor"), *words],
            env=environment | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return done.stdout + done.stderr

    def rows(self, query: str, **values: Any) -> list[Row[Any]]:
        """Rows of the monitored database."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(query), values))

    def value(self, query: str, **values: Any) -> Any:
        """The first value of the first row; None without one."""
        rows = self.rows(query, **values)
        return rows[0][0] if rows else None

    def job(self) -> Row[Any] | None:
        """The newest job."""
        rows = self.rows("SELECT * FROM jobs ORDER BY job_id DESC LIMIT 1")
        return rows[0] if rows else None

    def rollout(self) -> Row[Any] | None:
        """The newest rollout."""
        rows = self.rows("SELECT * FROM rollouts ORDER BY rollout_id DESC LIMIT 1")
        return rows[0] if rows else None

    def wait(self, note: str, look: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until it is so; False at the deadline."""
        limit = self.stage.pace.at_most if seconds is None else seconds
        return self.stage.await_(note, lambda: True if look() else None, limit) is True

    def unmet(self) -> str:
        """What stands in the way of a job, by the newest decision."""
        reasons = self.value("SELECT reasons FROM retrain_decisions ORDER BY decision_id DESC LIMIT 1") or ()
        return "; ".join(each["text"] for each in reasons if not each["met"])

    def job_over(self, result: StepResult, number: int, state: str) -> Row[Any] | None:
        """Wait until a job is over, and expect it in this state."""

        def over() -> bool:
            job = self.job()
            return job is not None and job.job_id == number and job.state in OVER

        self.wait(f"job {number} is under way", over, self.stage.pace.retrain)
        job = self.job()
        result.expect(f"the job is {state}", job is not None and job.state == state, said(job))
        return job

    def asked(self, reason: str, **changes: object) -> int:
        """A job that a person asks for; its number."""
        before = self.value("SELECT max(job_id) FROM jobs") or 0
        told = self.command("jobs", "retrain", "--reason", reason, **changes)
        number = int(self.value("SELECT max(job_id) FROM jobs") or 0)
        if number == before:
            raise RuntimeError(f"no job was queued: {told}")
        self.stage.view.say(f"job {number}: {reason}")
        return number

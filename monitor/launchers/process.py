"""A trainer as a process of this machine, with this program's environment. It outlives the monitor."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from monitor.launchers.base import Launch, LauncherKind, LaunchError, Options


class ProcessOptions(Options):
    """The command, to which `--job` and the job's number are added, and where its output goes."""

    command: tuple[str, ...] = Field(default=("fusionwatch-inference", "trainer"), min_length=1)
    log: Path | None = None


class ProcessLauncher:
    """Starts one process for each attempt."""

    def __init__(self, command: Sequence[str], log: Path | None) -> None:
        self._command = tuple(command)
        self._log = log
        self._started: list[subprocess.Popen[bytes]] = []

    def launch(self, wanted: Launch) -> str:
        """Start it; its process id."""
        self._started = [each for each in self._started if each.poll() is None]  # those that ended are reaped
        self._started.append(start((*self._command, "--job", str(wanted.job_id)), self._log))
        return f"process {self._started[-1].pid}"

    def withdraw(self, launched: Launch) -> None:
        """Nothing: a process waits for no machine."""


def start(command: Sequence[str], log: Path | None) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that what stops the monitor does not stop it. Raises LaunchError."""
    try:
        with (log or Path("/dev/null")).open("ab") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
    except OSError as error:
        raise LaunchError(f"{command[0]}: {error.strerror}") from error


LAUNCHER = LauncherKind("process", ProcessOptions, lambda options: ProcessLauncher(options.command, options.log))

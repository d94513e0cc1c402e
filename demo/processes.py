"""The four programs as a deployment runs them: child processes with their own environment and log file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import psutil

STOP_SECONDS = 20.0


class ProcessError(Exception):
    """A program did not become ready, or ended by itself; the text holds the end of its log."""


@dataclass(slots=True)
class Program:
    """One program: `start` it, wait until it is `ready`, `kill` or `stop` it, and start it again."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    ready_url: str | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self, changes: Mapping[str, str] | None = None) -> None:
        """Start it, this once with these changes of its environment; its output goes to the end of its log file."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                env=self.whole_environment() | dict(changes or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to handle: programs are stopped in order, not all at once
            )

    def whole_environment(self) -> dict[str, str]:
        """What it sees: ours, with its own settings."""
        return {**os.environ, **self.environment}

    def url(self, path: str) -> str:
        """Where it serves a path. Only for one that has a `ready_url`."""
        assert self.ready_url is not None
        return urljoin(self.ready_url, path)

    def answers(self, path: str, holding: str = "") -> bool:
        """Whether it answers a path with 200 within two seconds, and with this text in it."""
        try:
            with urllib.request.urlopen(self.url(path), timeout=2) as answer:
                return holding in answer.read().decode()
        except (urllib.error.URLError, OSError):
            return False

    def children(self) -> list[psutil.Process]:
        """The processes that it has started."""
        return psutil.Process(self._process.pid).children(recursive=True) if self._process is not None else []

    def check(self) -> None:
        """Raise ProcessError where it ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise ProcessError(f"{self.name} ended with code {code}; the end of {self.log}:\n{self._tail()}")

    def wait_ready(self, seconds: float) -> None:
        """Wait until its /readyz answers 200. Raises ProcessError at the deadline or where it ended."""
        if self.ready_url is None:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(self.ready_url, timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise ProcessError(f"{self.name} was not ready within {seconds:.0f} s; the end of {self.log}:\n{self._tail()}")

    def kill(self) -> None:
        """SIGKILL: no clean-up, no last commit."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def suspend(self) -> None:
        """SIGSTOP: it hangs, and knows nothing of it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on where it was."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where it has not ended by then."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        self.resume()  # a suspended one would not hear it
        try:
            self._process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def console_script(name: str) -> str:
    """The path of one of this environment's own commands."""
    return str(Path(sys.executable).parent / name)

"""A team of trainers by `torchrun`: several processes of this machine, or of several, that work on one job as one.

Each machine is reached by a command of the team's own, such as `ssh {host}`; without hosts it is this one alone. All
see the same stores and checkpoints. Its options are those of "torchrun (Elastic Launch)" in the manual of PyTorch.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from monitor.launchers.base import Launch, LauncherKind, Options
from monitor.launchers.process import start


class TorchrunOptions(Options):
    """`processes` on each of `hosts`, which meet at `meet`, `host:port` of the first; `reach` leads to a host."""

    processes: int = Field(default=1, ge=1, le=64)
    hosts: tuple[str, ...] = ()
    reach: tuple[str, ...] = ("ssh", "-oBatchMode=yes", "{host}")
    meet: str = Field(default="", pattern=r"^(\S+:\d{1,5})?$")
    torchrun: tuple[str, ...] = Field(default=("torchrun",), min_length=1)
    log: Path | None = None

    @model_validator(mode="after")
    def _meets(self) -> Self:
        if self.hosts and not self.meet:
            raise ValueError("meet: expected host:port of the first of hosts")
        return self


class TorchrunLauncher:
    """Starts one agent for each host and attempt."""

    def __init__(self, options: TorchrunOptions) -> None:
        self._options = options
        self._started: list[subprocess.Popen[bytes]] = []

    def launch(self, wanted: Launch) -> str:
        """Start the agents; their process ids here."""
        self._started = [each for each in self._started if each.poll() is None]
        agents = [start(command, self._options.log) for command in self.commands(wanted)]
        self._started += agents
        return "processes " + ", ".join(str(each.pid) for each in agents)

    def withdraw(self, launched: Launch) -> None:
        """Nothing: agents wait for no machine, and end with their trainers."""

    def commands(self, wanted: Launch) -> list[Sequence[str]]:
        """What is run for each host, the first host's agent being the one where all meet."""
        options = self._options
        work = ("--module", "inference.cli", "trainer", "--job", str(wanted.job_id))
        each = (*options.torchrun, f"--nproc-per-node={options.processes}", "--max-restarts=0")
        if not options.hosts:
            return [(*each, "--standalone", *work)]
        meeting = (
            f"--nnodes={len(options.hosts)}",
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={options.meet}",
            f"--rdzv-id={wanted.key}",
        )
        return [(*(part.format(host=host) for part in options.reach), *each, *meeting, *work) for host in options.hosts]


LAUNCHER = LauncherKind("torchrun", TorchrunOptions, TorchrunLauncher)

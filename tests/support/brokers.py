"""A broker that a test can take away and bring back with its data."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Protocol

import psutil

from demo import servers
from tests.support.apache_kafka import apache_kafka
from tests.support.worker import wait_until


class RestartableBroker(Protocol):
    """`address` stays the same; between `pause` and `resume` nobody answers there."""

    @property
    def address(self) -> str:
        """Its bootstrap address."""

    def pause(self) -> None:
        """Take it away."""

    def resume(self) -> None:
        """Bring it back with its data, and wait until it answers."""


@dataclass(frozen=True, slots=True)
class EmbeddedBroker:
    """The broker that keeps its topics in memory: away while its process is stopped."""

    address: str
    process: Popen[bytes]

    def pause(self) -> None:
        """Stop its process: connections stay open and are silent."""
        self.process.send_signal(signal.SIGSTOP)
        stopped = psutil.Process(self.process.pid)
        # it may answer once more before its last thread stands still
        wait_until(lambda: stopped.status() == psutil.STATUS_STOPPED, 10, "the broker does not stop")

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def restartable(kind: str, folder: Path) -> Iterator[RestartableBroker]:
    """A broker of its own process: `embedded`, or `apache`, which crashes at `pause` and recovers at `resume`."""
    if kind == "apache":
        with apache_kafka(folder) as broker:
            yield broker
        return
    with servers.broker_process(folder / "broker.log") as (address, process):
        embedded = EmbeddedBroker(address, process)
        try:
            yield embedded
        finally:
            embedded.resume()

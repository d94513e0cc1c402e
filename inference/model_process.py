"""The model in a process of its own, as its parent sees it: batches in, outputs out in the same order. No torch here.

A forward pass in a thread beside busy Python threads loses half its speed to the interpreter lock; in a process of its
own it loses none, and what kills it does not kill the worker.

The process is started by its own entry, `python -m inference.model_child`, over an inherited socket: it imports nothing
of the parent's main module. It ends when that socket closes, hence with its parent, however that ends.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference import frames, log
from inference.model_io import ModelDiedError, ModelFailedError, ModelInput, ModelOptions, ModelOutput
from inference.models.card import CheckpointError

_log = logging.getLogger(__name__)
_SECRETS = "FUSIONWATCH_"
# glibc gives arrays above 128 kB back to the system when they are freed, and each pass then faults its pages in
# anew. These keep up to 128 MB, and arrays to 32 MB; what an operator sets wins.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20)}


@dataclass(frozen=True, slots=True)
class Start:
    """The first thing that the process is told."""

    folder: Path
    options: ModelOptions
    log_level: int


@dataclass(frozen=True, slots=True)
class Started:
    """What it answers: the device in use, or what is wrong, and whether with the checkpoint."""

    device: str
    error: str | None = None
    checkpoint_is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Stands for the output of a batch whose forward pass raised."""

    error: str


class ModelProcess:
    """One checkpoint in one process. One thread may submit while another collects; `restart` needs both at rest."""

    def __init__(self, folder: Path, options: ModelOptions) -> None:
        """Starts nothing yet."""
        self._folder = folder
        self._options = options
        self._lock = threading.Lock()
        self._outstanding = 0
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[Any, Any] | None = None
        self.device = ""

    def start(self) -> None:
        """Load and warm up the checkpoint; returns when it is ready for batches.

        Raises CheckpointError where the folder is at fault, RuntimeError where the model cannot run, its process dies,
        or it is not ready in time.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "inference.model_child", str(theirs.fileno()), str(self._folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_KEEP_MEMORY | {key: value for key, value in os.environ.items() if not key.startswith(_SECRETS)},
                pass_fds=(theirs.fileno(),),
                process_group=0,  # a terminal's Ctrl-C is for the worker, which drains first
            )
        self._socket, self._process, self._outstanding = ours, process, 0
        self._end = weakref.finalize(self, _finish, ours, process, 0.0)
        try:
            started = self._greet(ours)
        except (OSError, EOFError) as error:
            self.close(timeout=0)
            late = isinstance(error, TimeoutError)
            why = f"not ready after {self._options.start_seconds:g} s" if late else f"ended with {process.returncode}"
            raise RuntimeError(f"the model process of {self._folder} is {why}") from None
        if started.error is not None:
            self.close()
            raise (CheckpointError if started.checkpoint_is_bad else RuntimeError)(started.error)
        self.device = started.device
        facts = log.fields(pid=process.pid, device=started.device, checkpoint=str(self._folder))
        _log.info("model process ready", extra=facts)

    def submit(self, batch: ModelInput) -> None:
        """Hand over a batch; returns once it is sent. Raises ModelDiedError."""
        try:
            frames.send(self._stream(), batch)
        except OSError as error:
            raise self._died() from error
        with self._lock:
            self._outstanding += 1

    def ready(self, timeout: float = 0.0) -> bool:
        """Whether `result` would return or raise at once, after up to `timeout` seconds. Raises ModelDiedError."""
        return bool(select.select([self._stream()], [], [], timeout)[0])

    def result(self, timeout: float | None = None) -> ModelOutput:
        """The output of the oldest batch that was submitted and not collected.

        Raises ModelFailedError where its forward pass raised, ModelDiedError where the process is gone. One that is
        silent for `timeout` seconds is taken for hung and killed, which also ends a `submit` that waits for it.
        """
        if timeout is not None and not self.ready(timeout):
            assert self._process is not None
            self._process.kill()
            raise ModelDiedError(f"the model process {self._process.pid} was killed: no output after {timeout:g} s")
        try:
            output = frames.receive(self._stream())
        except (OSError, EOFError) as error:
            raise self._died() from error
        with self._lock:
            self._outstanding -= 1
        if isinstance(output, Failed):
            raise ModelFailedError(output.error)
        assert isinstance(output, ModelOutput)
        return output

    def run(self, batch: ModelInput) -> ModelOutput:
        """Submit and collect; for callers with nothing else outstanding. Raises as they do."""
        self.submit(batch)
        return self.result()

    @property
    def outstanding(self) -> int:
        """Batches submitted and not collected."""
        return self._outstanding

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id; None where it does not run."""
        return self._process.pid if self._process is not None and self.alive else None

    def restart(self) -> None:
        """End what is left of the process and start another; nothing is outstanding then. Raises as `start`."""
        self.close(timeout=0)
        self.start()

    def close(self, timeout: float = 5.0) -> None:
        """End the process, by force after `timeout` seconds; what is outstanding is lost. Safe to call again."""
        if self._end is not None and self._end.detach() is not None:
            assert self._socket is not None
            assert self._process is not None
            _finish(self._socket, self._process, timeout)

    def _greet(self, stream: socket.socket) -> Started:
        stream.settimeout(self._options.start_seconds)
        frames.send(stream, Start(self._folder, self._options, logging.getLogger().getEffectiveLevel()))
        started = frames.receive(stream)
        stream.settimeout(None)
        assert isinstance(started, Started)
        return started

    def _stream(self) -> socket.socket:
        if self._socket is None or self._socket.fileno() < 0:
            raise ModelDiedError("the model process does not run")
        return self._socket

    def _died(self) -> ModelDiedError:
        assert self._process is not None
        try:
            ended = f"ended with {self._process.wait(1.0)}"
        except subprocess.TimeoutExpired:
            ended = "closed its stream"
        return ModelDiedError(f"the model process {self._process.pid} {ended}; {self._outstanding} batches are lost")


def _finish(stream: socket.socket, process: subprocess.Popen[bytes], timeout: float) -> None:
    """Close the stream, which ends the process, and wait for that."""
    stream.close()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

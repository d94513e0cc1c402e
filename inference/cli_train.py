"""`fusionwatch-inference train`: says how far training has come, and how to go on after Ctrl-C."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from inference.baseline import BaselineError
from inference.predictor import pick_device
from inference.training.annotations import AnnotationsError
from inference.training.config import ConfigError, read_config
from inference.training.fit_settings import FitError
from inference.training.keep import PAGE, FolderError
from inference.training.team import joined
from inference.training.train import Trained, train
from inference.training.validation import UnusableModelError
from inference.training.watch import Look

FINISHED, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


class Terminal:
    """Shows progress: a bar where someone looks on, a line for each look at the validation rows otherwise."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task: Any = None

    def __enter__(self) -> Terminal:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def phase(self, name: str) -> None:
        """Say what begins."""
        self._console.print(name, highlight=False)

    def step(self, step: int, steps: int, loss: float) -> None:
        """Move the bar."""
        if self._task is None:
            self._task = self._bar.add_task("training", total=steps, loss="")
        self._bar.update(self._task, completed=step, loss=f"loss {loss:.3f}")

    def look(self, look: Look) -> None:
        """Say what was seen."""
        self._console.print(
            f"step {look.step}: loss {look.loss:.3f}, validation {look.validation_loss:.3f}, "
            f"accuracy {look.validation_accuracy:.1%}",
            highlight=False,
        )


class Stop:
    """Set by the first SIGINT or SIGTERM; a second one does what it does to any other process."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._set) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _set(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        sys.stderr.write("stopping after this step; once more ends it at once\n")
        signal.signal(number, self._before[number])


def run(path: Path, *, force: bool) -> int:
    """Train by the file at `path`; returns the exit code."""
    console = Console(stderr=True)
    try:
        config = read_config(path)
        if config.training.torch_threads:
            torch.set_num_threads(config.training.torch_threads)
        with Stop() as stop, joined(pick_device(config.training.device)) as team, Terminal(console) as terminal:
            trained = train(config, team, terminal, lambda: stop.asked, force=force)
            leads = team.leads
    except (ConfigError, AnnotationsError) as error:
        return _failed(error, REFUSED)
    except (FolderError, FitError, BaselineError, UnusableModelError, FloatingPointError, OSError) as error:
        return _failed(error, FAILED)
    except torch.OutOfMemoryError as error:
        return _failed(f"{error}\nlower training.batch_size", FAILED)
    except KeyboardInterrupt:
        return _failed("ended at once; the same command goes on from the last save", INTERRUPTED)
    if not leads:
        return FINISHED if trained.version or trained.ended != "stopped" else INTERRUPTED
    if trained.version is None:
        console.print(f"stopped after step {trained.steps}; the same command goes on from there", highlight=False)
        return INTERRUPTED
    _summary(console, trained, config.output)
    return FINISHED


def _summary(console: Console, trained: Trained, folder: Path) -> None:
    assert trained.report is not None
    accuracy = trained.report["fused"]["accuracy"]
    low, high = accuracy["interval"]
    console.print(
        f"version {trained.version}: accuracy {accuracy['share']:.1%} ({low:.1%} to {high:.1%}) on {accuracy['n']} "
        f"{trained.report['evaluated_on']} rows, calibration error {trained.report['fused']['ece']['value']:.1%}; "
        f"see {folder / PAGE}",
        highlight=False,
        soft_wrap=True,
    )


def _failed(error: Exception | str, code: int) -> int:
    sys.stderr.write(f"{error}\n")
    return code

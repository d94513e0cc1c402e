"""`fusionwatch-inference train` and `ablate`: say how far training has come, and how to go on after Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from inference.baseline import BaselineError
from inference.cli_models import show_costs
from inference.devices import pick_device
from inference.training.ablate import FIGURES, ablate, every_family
from inference.training.annotations import AnnotationsError
from inference.training.config import ConfigError, TrainConfig, read_config
from inference.training.fit_settings import FitError
from inference.training.keep import PAGE, FolderError
from inference.training.mlflow_run import TrackingError
from inference.training.team import Team, joined
from inference.training.tracking import UNTRACKED, MlflowTracker, Tracker
from inference.training.train import Trained, train
from inference.training.validation import UnusableModelError
from inference.training.watch import Look

FINISHED, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
MLFLOW_URI = "MLFLOW_TRACKING_URI"


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
        """Say what begins; a bar of what was before is taken away."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        self._console.print(name, highlight=False)

    def step(self, step: int, steps: int, loss: float) -> None:
        """Move the bar."""
        if self._task is None:
            self._task = self._bar.add_task("training", loss="")
        self._bar.update(self._task, total=steps, completed=step, loss=f"loss {loss:.3f}")

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

    def work(config: TrainConfig, team: Team, terminal: Terminal, stop: Stop) -> int:
        trained = train(
            config, team, terminal, lambda: stop.asked, force=force, tracker=_tracker(config, team, console)
        )
        if trained.ended == "stopped":
            if team.leads:
                console.print(f"stopped after step {trained.steps}; the same command goes on from there")
            return INTERRUPTED
        if team.leads:
            _summary(console, trained, config.output)
            if trained.report and "distilled" in trained.report:
                show_costs(trained.report["distilled"], {"before": "teacher", "after": "student"})
        return FINISHED

    return _guarded(path, console, work)


def compare(path: Path, families: Sequence[str], seeds: Sequence[int]) -> int:
    """Train by the file at `path` with each family and seed and print one table; returns the exit code."""
    console = Console(stderr=True)

    def work(config: TrainConfig, team: Team, terminal: Terminal, stop: Stop) -> int:
        told = ablate(
            config,
            families or every_family(config),
            seeds,
            team,
            terminal,
            lambda: stop.asked,
            _tracker(config, team, console),
        )
        if told is None:
            if team.leads:
                console.print("stopped; the same command goes on from there")
            return INTERRUPTED
        if team.leads:
            _table(told)
        return FINISHED

    return _guarded(path, console, work)


def _guarded(path: Path, console: Console, work: Callable[[TrainConfig, Team, Terminal, Stop], int]) -> int:
    """Read the file, find the team, and turn what can go wrong into a line and an exit code."""
    try:
        config = read_config(path)
        if config.training.torch_threads:
            torch.set_num_threads(config.training.torch_threads)
        with Stop() as stop, joined(pick_device(config.training.device)) as team, Terminal(console) as terminal:
            return work(config, team, terminal, stop)
    except (ConfigError, AnnotationsError) as error:
        return _failed(error, REFUSED)
    except (
        FolderError,
        TrackingError,
        FitError,
        BaselineError,
        UnusableModelError,
        FloatingPointError,
        OSError,
    ) as error:
        return _failed(error, FAILED)
    except torch.OutOfMemoryError as error:
        return _failed(f"{error}\nlower training.batch_size", FAILED)
    except KeyboardInterrupt:
        return _failed("ended at once; the same command goes on from the last save", INTERRUPTED)


def _tracker(config: TrainConfig, team: Team, console: Console) -> Tracker:
    """Who the run is written down for. Raises TrackingError where MLflow is asked for and not installed."""
    if not team.leads or config.tracking.mlflow == "off":
        return UNTRACKED
    try:
        return MlflowTracker(
            os.environ.get(MLFLOW_URI), lambda line: console.print(line, highlight=False, soft_wrap=True)
        )
    except TrackingError as error:
        if config.tracking.mlflow == "on":
            raise
        console.print(f"not tracked: {error}", highlight=False, soft_wrap=True)
        return UNTRACKED


def _table(told: Sequence[Mapping[str, Any]]) -> None:
    table = Table()
    shown = [name for name in FIGURES if any(row[name]["mean"] is not None for row in told)]
    for name in ("family", "runs", "parameters", *shown):
        table.add_column(name, justify="left" if name == "family" else "right")
    for row in told:
        figures = (_with_spread(row[name], of_seconds=name == "seconds") for name in shown)
        table.add_row(row["family"], str(row["runs"]), f"{row['parameters']:,}", *figures)
    # a table that is cut where nobody's terminal shows it would be no table
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def _with_spread(figure: Mapping[str, float | None], *, of_seconds: bool) -> str:
    mean, spread = figure["mean"], figure["sd"]
    if mean is None:
        return "–"
    shown = f"{mean:.0f}" if of_seconds else f"{mean:.3f}"
    return shown if spread is None else f"{shown} ± {spread:.0f}" if of_seconds else f"{shown} ± {spread:.3f}"


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

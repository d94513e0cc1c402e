"""What every launcher is: it starts a trainer for one attempt of a job, and says what it started.

A launcher is one module of this package that exposes a `LAUNCHER` constant. What is launched claims the job itself, so
launching twice does no harm: the second trainer finds nothing that waits, and ends.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

import monitor.launchers


class LaunchError(Exception):
    """Nothing was started; the text says why, without secrets. It is tried again at the next look."""


@dataclass(frozen=True, slots=True)
class Launch:
    """An attempt of a job that a trainer is wanted for."""

    job_id: int
    model: str
    attempt: int
    deadline: datetime
    now: datetime

    @property
    def key(self) -> str:
        """The same whenever the same attempt is launched."""
        return f"fusionwatch-{self.model}-job-{self.job_id}-attempt-{self.attempt}"

    @property
    def seconds_left(self) -> int:
        """Until the deadline, at least 1."""
        return max(1, int((self.deadline - self.now).total_seconds()))


class Launcher(Protocol):
    """Starts trainers."""

    def launch(self, wanted: Launch) -> str:
        """Start a trainer and return what it is called there. Raises LaunchError."""
        ...

    def withdraw(self, launched: Launch) -> None:
        """Take away what was started for an attempt that nobody wants any more, where it still is. Raises LaunchError.

        A trainer at work stops by itself, at its next heartbeat: this is for what still waits for a machine.
        """
        ...


class Options(BaseModel):
    """Base of a launcher's options, which the settings fill."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class LauncherKind:
    """The constant `LAUNCHER` of each module. `build` takes an instance of `options`."""

    name: str
    options: type[Options]
    build: Callable[[Any], Launcher]


@cache
def kinds() -> Mapping[str, LauncherKind]:
    """Every kind of launcher by name."""
    modules = (
        importlib.import_module(f"{monitor.launchers.__name__}.{info.name}")
        for info in pkgutil.iter_modules(monitor.launchers.__path__)
    )
    found = [module.LAUNCHER for module in modules if hasattr(module, "LAUNCHER")]
    return {kind.name: kind for kind in found}


def build(options: Mapping[str, Any]) -> Launcher:
    """The launcher that `options` name by `kind`. Raises ValueError with what is wrong and what is allowed."""
    given = dict(options)
    name = given.pop("kind", None)
    if name not in kinds():
        raise ValueError(f"launcher: kind must be one of {sorted(kinds())}, not {name!r}")
    kind = kinds()[name]
    return kind.build(kind.options.model_validate(given))

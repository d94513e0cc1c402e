"""What an engine is: it runs one function over many parts, in one process or on many machines, and gives back in order.

An engine is a file of this package that exposes one constant, `ENGINE`. It knows nothing of windows: the function, what
all parts share and the parts themselves can be pickled.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import monitor.backfill

Work = Callable[[Any, Any], Any]  # of what is shared and of one part


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a machine is used, or which cluster: at `address`, where the engine knows of addresses."""

    processes: int
    address: str | None = None


class Run(Protocol):
    """Results of `work` over the parts, in their order, while later ones may still be under way.

    What the work raises is raised here. Raises EngineError where the engine cannot be used.
    """

    def __call__(self, work: Work, shared: Any, parts: Sequence[Any], size: Size) -> Iterator[Any]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Engine:
    """The constant `ENGINE` of each module."""

    name: str
    run: Run


@cache
def engines() -> Mapping[str, Engine]:
    """Every engine by name."""
    modules = (
        importlib.import_module(f"{monitor.backfill.__name__}.{info.name}")
        for info in pkgutil.iter_modules(monitor.backfill.__path__)
    )
    found = [module.ENGINE for module in modules if hasattr(module, "ENGINE")]
    return {engine.name: engine for engine in sorted(found, key=lambda each: each.name)}

"""What every kind of report is: it makes files of what is known of a period."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import monitor.reports
from monitor.reports.material import Material


@dataclass(frozen=True, slots=True)
class ReportKind:
    """A kind of report.

    `render` makes files by name (`monitor.storage.views.reports.FILE_NAME`) of the material, and imports what it
    needs itself. An `isolated` kind is rendered in a process of its own, with a deadline and bounded memory; one that
    is not must be cheap, and is rendered last: its material tells what became of the others.
    """

    name: str
    render: Callable[[Material], Mapping[str, str]]
    isolated: bool = True


@cache
def kinds() -> Mapping[str, ReportKind]:
    """Every kind of report by name, found by scanning this package for modules with a `REPORT`."""
    modules = (
        importlib.import_module(f"{monitor.reports.__name__}.{info.name}")
        for info in pkgutil.iter_modules(monitor.reports.__path__)
    )
    found = [module.REPORT for module in modules if hasattr(module, "REPORT")]
    return {kind.name: kind for kind in found}

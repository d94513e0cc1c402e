"""Every measurement, as one JSON object on standard output: `python -m tests.bench [--table] [name ...]`.

With `--table` the figures stand in a table on standard error too.

A measurement is a `bench_<name>` module of this package with `run() -> dict`. It measures and asserts nothing.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

import tests.bench


def main(wanted: list[str]) -> int:
    """Run the measurements named, or all; 2 where a name is unknown."""
    table = "--table" in wanted
    wanted = [name for name in wanted if name != "--table"]
    known = [
        m.name.removeprefix("bench_") for m in pkgutil.iter_modules(tests.bench.__path__) if m.name.startswith("bench_")
    ]
    if unknown := sorted(set(wanted) - set(known)):
        print(f"unknown measurements {unknown}; there are {known}", file=sys.stderr)
        return 2
    results = {name: importlib.import_module(f"tests.bench.bench_{name}").run() for name in wanted or known}
    print(json.dumps(results, indent=2))
    if table:
        shown = Table("what", "found")
        for row in _lines("", results):
            shown.add_row(*row)
        Console(stderr=True, width=140).print(shown)
    return 0


def _lines(prefix: str, found: Any) -> Iterator[tuple[str, str]]:
    """Each figure with its path; a share with its interval on one line."""
    if not isinstance(found, dict):
        yield prefix, str(found)
    elif {"share", "interval"} <= set(found):
        low, high = found["interval"]
        yield prefix, f"{found['share']:.3f}  ({low} to {high}, {found.get('trials', '')} trials)"
    else:
        for name, part in found.items():
            yield from _lines(f"{prefix} · {name}" if prefix else str(name), part)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

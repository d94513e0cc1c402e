"""Every measurement, as one JSON object on standard output: `python -m tests.bench [name ...]`.

A measurement is a `bench_<name>` module of this package with `run() -> dict`. It measures and asserts nothing.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys

import tests.bench


def main(wanted: list[str]) -> int:
    """Run the measurements named, or all; 2 where a name is unknown."""
    known = [
        m.name.removeprefix("bench_") for m in pkgutil.iter_modules(tests.bench.__path__) if m.name.startswith("bench_")
    ]
    if unknown := sorted(set(wanted) - set(known)):
        print(f"unknown measurements {unknown}; there are {known}", file=sys.stderr)
        return 2
    results = {name: importlib.import_module(f"tests.bench.bench_{name}").run() for name in wanted or known}
    print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""The process that renders one kind of report: material on standard input, files on standard output, both JSON.

It has no settings, no database and no credentials, and bounds itself, so that a report that grows without end fails
alone: `python -m monitor.reports.child KIND MEMORY SECONDS OUTPUT`, in bytes and seconds of CPU.
"""

from __future__ import annotations

import json
import os
import resource
import sys

from monitor.reports.base import kinds
from monitor.reports.material import Material


def main(name: str, memory: int, seconds: int, output: int) -> None:
    """Render; what a library prints goes to standard error, so that the answer is the files alone."""
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    answer = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    material = Material.model_validate_json(sys.stdin.buffer.read())
    files = kinds()[name].render(material)
    with os.fdopen(answer, "w", encoding="utf-8") as out:
        json.dump(dict(files), out)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

"""Known vulnerabilities of everything that is locked, by pip-audit: `python -m tests.support.audit`.

pip-audit takes a package that its service does not know for one that cannot be audited, and ends well. Where that holds
for every package, or no service answers, nothing was audited: that is said, and is a failure unless tolerated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LOCKED = Path(__file__).parents[2] / "requirements/dev.txt"
SECONDS = 300
Ask = Callable[[Path], str]


def pip_audit(requirements: Path) -> str:
    """What pip-audit prints of a file as JSON; nothing where no service answers."""
    command = ["-m", "pip_audit", "--require-hashes", "--disable-pip", "--format=json", "--progress-spinner=off"]
    ended = subprocess.run(
        [sys.executable, *command, "--timeout=10", f"--requirement={requirements}"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return ended.stdout


def audited(text: str) -> list[dict[str, Any]]:
    """The packages that the service knew, with their vulnerabilities."""
    found: list[dict[str, Any]] = json.loads(text)["dependencies"] if text else []
    return [each for each in found if "skip_reason" not in each]


def audit(requirements: Path, tolerate: bool, ask: Ask = pip_audit) -> tuple[int, str]:
    """The exit code, and what to say. The first package is asked for alone: most often none is known, or all are."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.txt"
        probe.write_text(_first(requirements))
        known = audited(ask(probe)) and audited(ask(requirements))
    if not known:
        return 0 if tolerate else 1, "audit: NOT DONE, no service that knows vulnerabilities can be asked from here"
    bad = [each for each in known if each["vulns"]]
    lines = [
        f"{each['name']} {each['version']}: {vulnerability['id']}, mended in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for each in bad
        for vulnerability in each["vulns"]
    ]
    return bool(bad), "\n".join([*lines, f"audit: {len(known)} packages, {len(lines)} known vulnerabilities"])


def _first(requirements: Path) -> str:
    """The lines of the first requirement."""
    lines = requirements.read_text().splitlines()
    end = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
    return "\n".join(lines[: end + 1]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tolerate-no-service", action="store_true", help="end well where nothing can be asked")
    code, told = audit(LOCKED, parser.parse_args(arguments).tolerate_no_service)
    sys.stdout.write(told + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())

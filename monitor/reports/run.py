"""Renders every kind of report: the isolated ones each in a process that may take so long and so much, and no more."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from signal import Signals

from monitor.reports.base import ReportKind, kinds
from monitor.reports.material import Document, Material

_log = logging.getLogger(__name__)

# A page of Evidently's is 4 MB; what is much larger than that is no report.
MOST_BYTES = 32 * 1024 * 1024
LOOK_SECONDS = 0.2
# What the child may know of this process's environment: where programs and modules are. No credentials.
_PASSED = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "TZ")
# No telemetry; one thread, as each takes address space; no cache, as the file system may be read-only.
_SET = {"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a process that renders may take; memory is address space, of which libraries reserve more than they use."""

    deadline: timedelta = timedelta(minutes=5)
    memory_bytes: int = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Rendered:
    """Files by name, and what became of each kind."""

    files: Mapping[str, bytes]
    documents: tuple[Document, ...]

    @property
    def error(self) -> str | None:
        """What is missing, in words; None where nothing is."""
        return "; ".join(f"{each.name}: {each.error}" for each in self.documents if each.error) or None


class RenderError(Exception):
    """A kind of report could not be rendered; the text says why."""


class StoppedError(Exception):
    """The program ends: what was under way is left."""


class Renderer:
    """Renders reports; `stop` ends the one under way, in whatever thread that is."""

    def __init__(self, bounds: Bounds, chosen: Iterable[str] | None = None) -> None:
        """Of every kind, or the `chosen` ones; those that are not isolated come last."""
        names = sorted(kinds() if chosen is None else chosen)
        self._kinds = sorted((kinds()[name] for name in names), key=lambda kind: not kind.isolated)
        self._bounds = bounds
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End what is under way, and render no more."""
        self._stopped.set()

    def render(self, material: Material) -> Rendered:
        """All files. A kind that fails is told of by those that come last; of these an error is raised.

        Raises StoppedError once `stop` was called.
        """
        files: dict[str, bytes] = {}
        documents: list[Document] = []
        for kind in self._kinds:
            try:
                made = self._made(kind, material.model_copy(update={"documents": list(documents)}))
            except RenderError as error:
                _log.warning("report %s was not made: %s", kind.name, error)
                documents.append(Document(name=kind.name, error=str(error)))
                continue
            files |= {name: text.encode() for name, text in made.items()}
            documents.append(Document(name=kind.name, files=sorted(made)))
        return Rendered(files, tuple(documents))

    def _made(self, kind: ReportKind, material: Material) -> Mapping[str, str]:
        if not kind.isolated:
            return kind.render(material)
        with tempfile.TemporaryDirectory(prefix="fusionwatch-report-") as folder:
            return self._isolated(kind, material, Path(folder))

    def _isolated(self, kind: ReportKind, material: Material, folder: Path) -> Mapping[str, str]:
        """Render in a process that writes to a folder of its own. Raises RenderError and StoppedError."""
        (folder / "material").write_bytes(material.model_dump_json().encode())
        with (
            (folder / "material").open("rb") as given,
            (folder / "answer").open("wb") as answer,
            (folder / "said").open("wb") as said,
        ):
            child = subprocess.Popen(
                self._command(kind), stdin=given, stdout=answer, stderr=said, env=_environment(folder)
            )
        try:
            code = self._wait(child)
        finally:
            child.kill()
            child.wait()
        if code:
            raise RenderError(_why(code, (folder / "said").read_text(errors="replace"), self._bounds))
        files: Mapping[str, str] = json.loads((folder / "answer").read_bytes())
        return files

    def _command(self, kind: ReportKind) -> list[str]:
        seconds = math.ceil(self._bounds.deadline.total_seconds())  # of CPU: for a child that outlives this process
        limits = (self._bounds.memory_bytes, seconds, MOST_BYTES)
        return [sys.executable, "-m", "monitor.reports.child", kind.name, *map(str, limits)]

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        left = self._bounds.deadline.total_seconds()
        while left > 0:
            if self._stopped.is_set():
                raise StoppedError("the monitor is ending")
            try:
                return child.wait(min(LOOK_SECONDS, left))
            except subprocess.TimeoutExpired:
                left -= LOOK_SECONDS
        raise RenderError(f"took longer than {self._bounds.deadline.total_seconds():g} s")


def _environment(folder: Path) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {**passed, **_SET, "HOME": str(folder), "TMPDIR": str(folder)}


def _why(code: int, said: str, bounds: Bounds) -> str:
    """The last line that the process said: its exception. A signal, or want of memory, is told as such."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1][:500] if lines else f"ended with status {code}"
    if any(sign in said for sign in ("MemoryError", "Cannot allocate memory", "failed to map segment")):
        return f"needed more than {bounds.memory_bytes // 1024**2:,} MiB of address space"
    return f"was ended by {Signals(-code).name}" if code < 0 else last

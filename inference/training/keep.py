"""What of a run is on disk: so that a killed one goes on from its last saved step, and no other is overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from inference.training.annotated import Row
from inference.training.config import TrainConfig

RUN, STATE, CHECKPOINT, REPORT, PAGE = "run.json", "state.safetensors", "checkpoint", "report.json", "report.html"
UNFINISHED = "checkpoint.part"
TRACKED = "tracked.json"


class FolderError(Exception):
    """The output folder cannot be used; the text says why, and what can be done."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was saved: tensors by name, and facts that can be written as JSON."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class OutputFolder:
    """The folder of one training run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoint(self) -> Path:
        """The sealed checkpoint of a finished run."""
        return self.path / CHECKPOINT

    def open(self, config: TrainConfig, rows: Sequence[Row], *, force: bool) -> None:
        """Make the folder ready for this run, or for it to go on; `force` removes an earlier run's files.

        Raises FolderError where it holds a finished run, another run's beginning, or files that are none of ours.
        """
        identity = _identity(config, rows)
        if self.path.exists() and not self.path.is_dir():
            raise FolderError(f"{self.path}: expected a folder")
        if self.path.is_dir() and any(self.path.iterdir()):
            if not (self.path / RUN).exists():
                raise FolderError(f"{self.path}: holds files of something else; choose an empty folder")
            if not force:
                self._require_same(identity)
                return
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)
        _write(self.path / RUN, json.dumps(identity, indent=2, sort_keys=True).encode())

    def finished(self, config: TrainConfig, rows: Sequence[Row]) -> dict[str, Any] | None:
        """The report of this very run, if it is there and finished. Raises FolderError where it is another's."""
        if not (self.path / REPORT).exists():
            return None
        if json.loads((self.path / RUN).read_text(encoding="utf-8")) != _identity(config, rows):
            raise FolderError(f"{self.path}: holds a finished run of another configuration or of other rows; remove it")
        report: dict[str, Any] = json.loads((self.path / REPORT).read_text(encoding="utf-8"))
        return report

    def save(self, kept: Kept) -> None:
        """Keep a state; a reader never sees half of it, and a kill leaves the one before."""
        part = self.path / f"{STATE}.part"
        save_file(dict(kept.tensors), part, {"facts": json.dumps(kept.facts)})
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(self.path / STATE)

    def load(self) -> Kept | None:
        """The state that was saved last; None where there is none. Raises FolderError where it is damaged."""
        path = self.path / STATE
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as stored:
                facts = json.loads(stored.metadata()["facts"])
                return Kept({name: stored.get_tensor(name) for name in stored.keys()}, facts)  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise FolderError(f"{path} cannot be read: {error}; use --force to start over") from error

    def track(self, where: Mapping[str, str]) -> None:
        """Keep where the run is tracked, for a process that goes on with it."""
        _write(self.path / TRACKED, json.dumps(where).encode())

    def tracked(self) -> dict[str, str] | None:
        """What `track` kept; None where there is nothing."""
        if not (self.path / TRACKED).exists():
            return None
        kept: dict[str, str] = json.loads((self.path / TRACKED).read_text(encoding="utf-8"))
        return kept

    def fresh_part(self) -> Path:
        """Where the checkpoint is put together, emptied of what a killed run left there."""
        shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)
        return self.path / UNFINISHED

    def publish(self) -> None:
        """Give the finished checkpoint its name."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        (self.path / UNFINISHED).rename(self.checkpoint)

    def finish(self, report: Mapping[str, Any], page: str) -> None:
        """Write the report, which says that the run is finished, and drop what it would have gone on from."""
        _write(self.path / PAGE, page.encode())
        _write(self.path / REPORT, (json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
        (self.path / STATE).unlink(missing_ok=True)

    def _require_same(self, identity: Mapping[str, Any]) -> None:
        if (self.path / REPORT).exists():
            raise FolderError(f"{self.path}: holds a finished run; choose another folder, or --force to replace it")
        try:
            before = json.loads((self.path / RUN).read_text(encoding="utf-8"))
            changed = _differences(before["config"], identity["config"])
            same_data = before["data"] == identity["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise FolderError(f"{self.path / RUN}: cannot be read: {error}; use --force to start over") from error
        if changed or not same_data:
            what = ", ".join([*changed, *([] if same_data else ["the annotated rows"])])
            raise FolderError(
                f"{self.path}: holds an unfinished run that differs in {what}; "
                f"choose another folder, or --force to start over"
            )

    def _clear(self) -> None:
        for name in (STATE, f"{STATE}.part", REPORT, PAGE, TRACKED):
            (self.path / name).unlink(missing_ok=True)
        for name in (CHECKPOINT, UNFINISHED):
            shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / RUN).unlink(missing_ok=True)


def _identity(config: TrainConfig, rows: Sequence[Row]) -> dict[str, Any]:
    return {"config": _comparable(config), "data": _digest(rows)}


def _comparable(config: TrainConfig) -> dict[str, Any]:
    """What must be equal for a run to go on: all but where it is written and what it is computed with."""
    content = config.model_dump(mode="json", exclude={"output", "tracking"})
    for name in ("device", "torch_threads", "save_every"):
        del content["training"][name]
    return content


def _digest(rows: Sequence[Row]) -> str:
    """A SHA-256 over what is trained on, in its order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row.id, row.digest, row.text, row.label, row.split, *row.beside()]).encode())
    return digest.hexdigest()


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of keys whose values differ."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key}")
    return found


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)

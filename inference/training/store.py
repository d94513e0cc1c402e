"""Where a team keeps the raw inputs of its traffic: fusionwatch logs digests only, so training asks here.

A store is a folder of request messages as they were sent, one file each, named by the SHA-256 of the request id
(ids are not safe file names) with the format as suffix: `<64 hex digits>.msgpack` or `.json`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

CONTENT_TYPES = {".msgpack": b"application/msgpack", ".json": b"application/json"}
LABELS = "labels.jsonl"


class StoreError(Exception):
    """The store cannot be used; the text names the path and what was expected there."""


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A request message as its producer sent it."""

    value: bytes
    content_type: bytes


class LocalStore:
    """A store in a local folder."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError where there is no such folder."""
        if not folder.is_dir():
            raise StoreError(f"{folder}: expected a folder of request messages")
        self._folder = folder

    def put(self, request_id: str, value: bytes, suffix: str = ".msgpack") -> None:
        """Keep a message; a reader never sees half of it."""
        target = self._folder / f"{_name(request_id)}{suffix}"
        part = target.with_suffix(".part")
        part.write_bytes(value)
        part.rename(target)

    def fetch(self, request_id: str) -> RawMessage | None:
        """The message of a request id, or None where the store has none."""
        name = _name(request_id)
        for suffix, content_type in CONTENT_TYPES.items():
            try:
                return RawMessage((self._folder / f"{name}{suffix}").read_bytes(), content_type)
            except FileNotFoundError:
                continue
        return None

    def labels(self) -> dict[str, str]:
        """Label by request id, from the store's own `labels.jsonl` (lines of `{"request_id", "label"}`); may be empty.

        Raises StoreError naming the line that is not of that form.
        """
        path = self._folder / LABELS
        if not path.exists():
            return {}
        found = {}
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    entry = json.loads(line)
                    found[str(entry["request_id"])] = str(entry["label"])
                except (ValueError, KeyError, TypeError):
                    raise StoreError(f"{path}:{number}: expected an object with request_id and label") from None
        return found


def _name(request_id: str) -> str:
    return hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).hexdigest()

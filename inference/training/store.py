"""How the raw inputs of traffic lie in a store: fusionwatch logs digests only, so training asks here.

A store holds either request messages as they were sent, each named by the SHA-256 of the request id (ids are not
safe object names) with the format as suffix, `<64 hex digits>.msgpack` or `.json`; or raw inputs by themselves, each
named by the digest that the log has of it, `<64 hex digits>`: pictures as their files, texts in UTF-8.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from inference.stores.base import Store, StoreError
from inference.stores.local import LocalFolder

__all__ = ["LABELS", "Inputs", "LocalStore", "Messages", "RawMessage", "StoreError"]

CONTENT_TYPES = {".msgpack": b"application/msgpack", ".json": b"application/json"}
LABELS = "labels.jsonl"


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A request message as its producer sent it."""

    value: bytes
    content_type: bytes


class Messages:
    """Request messages in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def fetch(self, request_id: str) -> RawMessage | None:
        """The message of a request id, or None where the store has none. Raises StoreError."""
        name = _name(request_id)
        for suffix, content_type in CONTENT_TYPES.items():
            if (found := self._store.read(f"{name}{suffix}")) is not None:
                return RawMessage(found, content_type)
        return None

    def labels(self) -> dict[str, str]:
        """Label by request id, from the store's own `labels.jsonl` (lines of `{"request_id", "label"}`); may be empty.

        Raises StoreError naming the line that is not of that form.
        """
        found = {}
        for number, line in enumerate((self._store.read(LABELS) or b"").splitlines(), 1):
            try:
                entry = json.loads(line)
                found[str(entry["request_id"])] = str(entry["label"])
            except (ValueError, KeyError, TypeError):
                where = f"{self._store.where}/{LABELS}:{number}"
                raise StoreError(f"{where}: expected an object with request_id and label") from None
        return found


class Inputs:
    """Raw inputs in a store, by digest."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def fetch(self, digest: bytes) -> bytes | None:
        """The input with that digest, or None where the store has none. Raises StoreError."""
        return self._store.read(digest.hex())


class LocalStore(Messages):
    """Request messages in a local folder, which can be written too."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError where there is no such folder."""
        self._folder = LocalFolder(folder)
        super().__init__(self._folder)

    def put(self, request_id: str, value: bytes, suffix: str = ".msgpack") -> None:
        """Keep a message; a reader never sees half of it."""
        self._folder.write(f"{_name(request_id)}{suffix}", value)


def _name(request_id: str) -> str:
    return hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).hexdigest()

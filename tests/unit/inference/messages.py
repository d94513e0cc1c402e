"""Builders for records and requests."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from inference.record import Header, Record

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def record(value: Any, *headers: Header, offset: int = 0, partition: int = 0) -> Record:
    """A record whose value is the object as JSON, or bytes as they are."""
    body = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return Record("fusion.requests", partition, offset, b"key", body, headers, 100.0, NOW)


def packed(value: Any) -> Record:
    """A record whose value is the object as MessagePack."""
    return record(msgspec.msgpack.encode(value), ("Content-Type", b"application/msgpack"))


def message(**changes: Any) -> dict[str, Any]:
    """A valid request; `changes` replace fields, and `...` removes one."""
    fields: dict[str, Any] = {
        "schema_version": 1,
        "request_id": "r1",
        "produced_at": "2026-03-01T12:00:00Z",
        "modalities": {"image": {"data": base64.b64encode(b"raw").decode()}, "text": {"data": "a caption"}},
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}

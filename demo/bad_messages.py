"""A few messages as careless producers send them, each with what must become of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from demo.traffic import JSON, MSGPACK


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message and the error code under which it must reach the dead-letter topic."""

    code: str
    value: bytes
    content_type: bytes = JSON


def bad_messages(run: str) -> list[BadMessage]:
    """One message of each kind; `run` keeps their request ids apart from other runs'."""

    def message(kind: str, changed: Mapping[str, Any]) -> bytes:
        good = {
            "schema_version": 1,
            "request_id": f"{run}-bad-{kind}",
            "produced_at": datetime.now(UTC).isoformat(),
            "modalities": {"text": {"data": "a red circle is left of a blue square"}},
        }
        return json.dumps({key: value for key, value in {**good, **changed}.items() if value is not None}).encode()

    return [
        BadMessage("not_decodable", b"\x89PNG this is no JSON"),
        BadMessage("not_decodable", b"\xc1", MSGPACK),
        BadMessage("unknown_schema_version", message("version", {"schema_version": 2})),
        BadMessage("request_id_missing", message("id", {"request_id": None})),
        BadMessage("request_id_too_long", message("long", {"request_id": "x" * 129})),
        BadMessage("no_modality", message("empty", {"modalities": {}})),
        BadMessage("unknown_modality", message("lidar", {"modalities": {"lidar": {"data": "x"}}})),
        BadMessage("base64_invalid", message("base64", {"modalities": {"image": {"data": "%%%"}}})),
        BadMessage("produced_at_invalid", message("clock", {"produced_at": "yesterday"})),
    ]

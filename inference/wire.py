"""The wire format that requests and labels share: JSON or MessagePack objects, checked field by field.

Nothing here repeats a field's value in an error: details name the field and what is allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from inference.errors import Code, Refusal
from inference.record import Record

SCHEMA_VERSION = 1
REQUEST_ID_CHARACTERS = 128
# Short names such as a region or a trace id; a longer one is a payload in the wrong place.
FIELD_CHARACTERS = 256
JSON_TYPE, MSGPACK_TYPE = "application/json", "application/msgpack"
_MSGPACK_TYPES = frozenset({MSGPACK_TYPE, "application/x-msgpack", "application/vnd.msgpack"})
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_SURROGATES = re.compile("[\ud800-\udfff]")


class RefusedError(Exception):
    """Carries a refusal out of nested checks; never leaves the parsing functions."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(code)
        self.refusal = Refusal(code, detail)


def decode(record: Record, max_bytes: int) -> dict[str, Any]:
    """The message's object. Raises RefusedError where there is none.

    The `content-type` header says which of the two formats; JSON where it is absent.
    """
    value = record.value
    if not value:
        raise RefusedError(Code.MESSAGE_EMPTY, "the message has no value")
    if len(value) > max_bytes:
        raise RefusedError(Code.MESSAGE_TOO_LARGE, f"{len(value)} bytes; at most {max_bytes} are accepted")
    declared = (record.header("content-type") or JSON_TYPE.encode()).decode("ascii", "replace")
    kind = declared.split(";")[0].strip().lower()
    try:
        if kind == JSON_TYPE:
            decoded = _decode_json(value)
        elif kind in _MSGPACK_TYPES:
            decoded = msgspec.msgpack.decode(value)
        else:
            raise RefusedError(Code.UNKNOWN_CONTENT_TYPE, f"content-type must be {JSON_TYPE} or {MSGPACK_TYPE}")
    except (ValueError, msgspec.MsgspecError) as error:
        # the libraries' texts name a position and a byte, never the content
        raise RefusedError(Code.NOT_DECODABLE, f"not {kind}: {_short(error)}") from None
    except RecursionError:
        raise RefusedError(Code.NOT_DECODABLE, f"not usable {kind}: nested too deeply") from None
    if not isinstance(decoded, dict):
        raise RefusedError(Code.NOT_DECODABLE, f"expected an object, found {type(decoded).__name__}")
    return decoded


def _decode_json(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        # An escaped lone surrogate is legal JSON that msgspec cannot represent; the field's own check names it.
        if b"\\ud" not in value.lower():
            raise
        try:
            return json.loads(value.decode("utf-8"))
        except ValueError:
            raise error from None


def _short(error: Exception) -> str:
    reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
    return reason[:200]


def check_version(message: Mapping[str, Any]) -> None:
    """Raises RefusedError unless the message is of this schema version."""
    version = message.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        found = str(version)[:20] if type(version) is int else type(version).__name__
        raise RefusedError(Code.UNKNOWN_SCHEMA_VERSION, f"schema_version must be {SCHEMA_VERSION}, found {found}")


def request_id(message: Mapping[str, Any]) -> str:
    """The message's request id: 1 to 128 characters that a database can store."""
    value = message.get("request_id")
    if value is None or value == "":
        raise RefusedError(Code.REQUEST_ID_MISSING, f"request_id must be 1-{REQUEST_ID_CHARACTERS} characters")
    if not isinstance(value, str):
        raise RefusedError(Code.REQUEST_ID_INVALID, f"request_id must be a string, found {type(value).__name__}")
    if len(value) > REQUEST_ID_CHARACTERS:
        detail = f"request_id has {len(value)} characters; at most {REQUEST_ID_CHARACTERS} are accepted"
        raise RefusedError(Code.REQUEST_ID_TOO_LONG, detail)
    if not storable(value):
        raise RefusedError(Code.REQUEST_ID_INVALID, "request_id holds NUL or a lone surrogate")
    return value


def short_text(message: Mapping[str, Any], name: str) -> str | None:
    """An optional short text field. Raises RefusedError where it is something else, too long or not storable."""
    value = message.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > FIELD_CHARACTERS or not storable(value):
        detail = f"{name} must be a string of at most {FIELD_CHARACTERS} characters without NUL or lone surrogates"
        raise RefusedError(Code.FIELD_INVALID, detail)
    return value


def timestamp(value: object) -> datetime | None:
    """A point in time in UTC from RFC 3339 text or a MessagePack timestamp; None where it is neither."""
    try:
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo is not None else None
        if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
            return None
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def storable(value: str) -> bool:
    """Whether PostgreSQL can hold the text: no NUL, no lone surrogate."""
    return "\0" not in value and not _SURROGATES.search(value)

"""From a message to a request, or to the reason why it is none."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from inference import wire
from inference.errors import Code, Refusal
from inference.modalities.base import Wire
from inference.record import Record
from inference.wire import RefusedError

# A 10 MB image as base64 is 13.4 MB; with a 64 kB text and fields it stays below.
MAX_MESSAGE_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class Given:
    """One modality as the producer sent it: bytes or text, not yet decoded; an object is JSON text, its keys sorted."""

    data: bytes | str = field(repr=False)
    captured_at: datetime | None


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed request. `expected` is None where the producer leaves it to what the model declares."""

    request_id: str
    schema_version: int
    produced_at: datetime
    correlation_id: str | None
    source: str | None
    modalities: Mapping[str, Given]
    expected: tuple[str, ...] | None

    def without_data(self) -> Request:
        """The same request, letting go of what its modalities hold."""
        return Request(
            self.request_id,
            self.schema_version,
            self.produced_at,
            self.correlation_id,
            self.source,
            {},
            self.expected,
        )


class RequestParser:
    """Parses request messages for a set of modalities."""

    def __init__(self, wires: Mapping[str, Wire], max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        """`wires` says for each known modality whether its data are bytes, text or an object."""
        self._wires = dict(wires)
        self._max_bytes = max_bytes

    def parse(self, record: Record) -> Request | Refusal:
        """Never raises, whatever the bytes: a refusal is a value."""
        try:
            message = wire.decode(record, self._max_bytes)
            wire.check_version(message)
            return self._request(message, binary=not _is_json(record))
        except RefusedError as error:
            return error.refusal

    def _request(self, message: Mapping[str, Any], *, binary: bool) -> Request:
        request_id = wire.request_id(message)
        produced_at = wire.timestamp(message.get("produced_at"))
        if produced_at is None:
            detail = "produced_at must be an RFC 3339 time with its offset from UTC"
            raise RefusedError(Code.PRODUCED_AT_INVALID, detail)
        return Request(
            request_id=request_id,
            schema_version=wire.SCHEMA_VERSION,
            produced_at=produced_at,
            correlation_id=wire.short_text(message, "correlation_id"),
            source=wire.short_text(message, "source"),
            modalities=self._modalities(message.get("modalities"), binary=binary),
            expected=self._expected(message.get("expected_modalities")),
        )

    def _modalities(self, sent: object, *, binary: bool) -> dict[str, Given]:
        if sent is None or sent == {}:
            raise RefusedError(Code.NO_MODALITY, f"modalities must hold at least one of {self._known}")
        if not isinstance(sent, dict):
            raise RefusedError(Code.FIELD_INVALID, f"modalities must be an object, found {type(sent).__name__}")
        if unknown := len(sent.keys() - self._wires.keys()):
            raise RefusedError(Code.UNKNOWN_MODALITY, f"{unknown} unknown name(s) in modalities; known: {self._known}")
        given = {}
        for name in sorted(sent):
            modality = self._given(name, sent[name], binary=binary)
            if modality is not None:
                given[name] = modality
        if not given:
            raise RefusedError(Code.NO_MODALITY, "every modality is null")
        return given

    def _given(self, name: str, sent: object, *, binary: bool) -> Given | None:
        if sent is None:
            return None
        if not isinstance(sent, dict):
            raise RefusedError(Code.FIELD_INVALID, f"modalities.{name} must be an object with 'data'")
        captured_at = None
        if sent.get("captured_at") is not None:
            captured_at = wire.timestamp(sent["captured_at"])
            if captured_at is None:
                detail = f"modalities.{name}.captured_at must be an RFC 3339 time with its offset from UTC"
                raise RefusedError(Code.CAPTURED_AT_INVALID, detail)
        data = sent.get("data")
        if data is None:
            return None
        if self._wires[name] is dict:
            return Given(_object(name, data), captured_at)
        if self._wires[name] is str or binary:
            if type(data) is not self._wires[name]:
                wanted = "a string" if self._wires[name] is str else "bytes"
                detail = f"modalities.{name}.data must be {wanted}, found {type(data).__name__}"
                raise RefusedError(Code.FIELD_INVALID, detail)
            assert isinstance(data, bytes | str)
            return Given(data, captured_at)
        return Given(_base64(name, data), captured_at)

    def _expected(self, sent: object) -> tuple[str, ...] | None:
        if sent is None:
            return None
        if not isinstance(sent, list) or not all(isinstance(name, str) for name in sent):
            raise RefusedError(Code.FIELD_INVALID, "expected_modalities must be a list of names")
        if set(sent) - self._wires.keys():
            raise RefusedError(Code.UNKNOWN_MODALITY, f"unknown name in expected_modalities; known: {self._known}")
        return tuple(sorted(set(sent)))

    @property
    def _known(self) -> str:
        return ", ".join(sorted(self._wires))


def _is_json(record: Record) -> bool:
    declared = record.header("content-type")
    return declared is None or b"msgpack" not in declared.lower()


def _object(name: str, data: object) -> str:
    """An object's canonical text: what is the same in another order has the same digest; nothing for an empty one."""
    wanted = f"modalities.{name}.data must be an object of numbers and strings"
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise RefusedError(Code.FIELD_INVALID, f"{wanted}, found {type(data).__name__}")
    try:
        return json.dumps(data, sort_keys=True, separators=(",", ":")) if data else ""
    except (TypeError, ValueError, RecursionError):  # MessagePack holds bytes and times too
        raise RefusedError(Code.FIELD_INVALID, wanted) from None


def _base64(name: str, data: object) -> bytes:
    if not isinstance(data, str):
        raise RefusedError(Code.BASE64_INVALID, f"modalities.{name}.data must be base64 text in a JSON message")
    try:
        return binascii.a2b_base64(data.encode("ascii"), strict_mode=True)
    except ValueError:  # binascii's error and non-ASCII text alike
        raise RefusedError(Code.BASE64_INVALID, f"modalities.{name}.data is not base64 (RFC 4648)") from None

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import Code, Refusal
from inference.request import Request, RequestParser
from tests.unit.inference.messages import message, packed, record

PARSER = RequestParser({"image": bytes, "text": str}, max_bytes=100_000)


def refused(value: Any) -> Refusal:
    parsed = PARSER.parse(value if not isinstance(value, dict) else record(value))
    assert isinstance(parsed, Refusal)
    return parsed


def accepted(value: Any) -> Request:
    parsed = PARSER.parse(value if not isinstance(value, dict) else record(value))
    assert isinstance(parsed, Request), parsed
    return parsed


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"schema_version": 2}, Code.UNKNOWN_SCHEMA_VERSION),
        ({"schema_version": "1"}, Code.UNKNOWN_SCHEMA_VERSION),
        ({"schema_version": True}, Code.UNKNOWN_SCHEMA_VERSION),
        ({"schema_version": ...}, Code.UNKNOWN_SCHEMA_VERSION),
        ({"request_id": ...}, Code.REQUEST_ID_MISSING),
        ({"request_id": None}, Code.REQUEST_ID_MISSING),
        ({"request_id": ""}, Code.REQUEST_ID_MISSING),
        ({"request_id": "x" * 129}, Code.REQUEST_ID_TOO_LONG),
        ({"request_id": 7}, Code.REQUEST_ID_INVALID),
        ({"request_id": "a\0b"}, Code.REQUEST_ID_INVALID),
        ({"request_id": "a\ud800"}, Code.REQUEST_ID_INVALID),
        ({"produced_at": ...}, Code.PRODUCED_AT_INVALID),
        ({"produced_at": "yesterday"}, Code.PRODUCED_AT_INVALID),
        ({"produced_at": "2026-03-01T12:00:00"}, Code.PRODUCED_AT_INVALID),
        ({"produced_at": "2026-13-01T12:00:00Z"}, Code.PRODUCED_AT_INVALID),
        ({"produced_at": "0001-01-01T00:00:00+14:00"}, Code.PRODUCED_AT_INVALID),
        ({"produced_at": 1772366400}, Code.PRODUCED_AT_INVALID),
        ({"modalities": ...}, Code.NO_MODALITY),
        ({"modalities": {}}, Code.NO_MODALITY),
        ({"modalities": {"image": None}}, Code.NO_MODALITY),
        ({"modalities": {"text": {"data": None}}}, Code.NO_MODALITY),
        ({"modalities": ["text"]}, Code.FIELD_INVALID),
        ({"modalities": {"smell": {"data": "x"}}}, Code.UNKNOWN_MODALITY),
        ({"modalities": {"text": "caption"}}, Code.FIELD_INVALID),
        ({"modalities": {"text": {"data": 5}}}, Code.FIELD_INVALID),
        ({"modalities": {"text": {"data": "x", "captured_at": "noon"}}}, Code.CAPTURED_AT_INVALID),
        ({"modalities": {"image": {"data": "***"}}}, Code.BASE64_INVALID),
        ({"modalities": {"image": {"data": "YWJj ZGVm"}}}, Code.BASE64_INVALID),
        ({"modalities": {"image": {"data": "é"}}}, Code.BASE64_INVALID),
        ({"modalities": {"image": {"data": 5}}}, Code.BASE64_INVALID),
        ({"expected_modalities": ["smell"]}, Code.UNKNOWN_MODALITY),
        ({"expected_modalities": "image"}, Code.FIELD_INVALID),
        ({"source": "x" * 300}, Code.FIELD_INVALID),
        ({"correlation_id": "a\0"}, Code.FIELD_INVALID),
    ],
)
def test_each_bad_field_has_its_own_reason(changes: dict[str, Any], code: Code) -> None:
    assert refused(message(**changes)).code is code


@pytest.mark.parametrize(
    ("value", "headers", "code"),
    [
        (None, (), Code.MESSAGE_EMPTY),
        (b"", (), Code.MESSAGE_EMPTY),
        (b"x" * 100_001, (), Code.MESSAGE_TOO_LARGE),
        (b"not json", (), Code.NOT_DECODABLE),
        (b"[1]", (), Code.NOT_DECODABLE),
        (b"[" * 90_000, (), Code.NOT_DECODABLE),
        (b'{"a": "\xff"}', (), Code.NOT_DECODABLE),
        (b"\xc1", (("content-type", b"application/msgpack"),), Code.NOT_DECODABLE),
        (b"{}", (("content-type", b"text/csv"),), Code.UNKNOWN_CONTENT_TYPE),
        (b"{}", (("content-type", b"\xff\xfe"),), Code.UNKNOWN_CONTENT_TYPE),
    ],
)
def test_each_bad_body_has_its_own_reason(value: Any, headers: Any, code: Code) -> None:
    assert refused(record(value, *headers)).code is code


def test_details_never_repeat_the_input() -> None:
    secret = "MARKED-SECRET"
    for changes in (
        {"request_id": secret * 20},
        {"produced_at": secret},
        {"modalities": {secret: {"data": secret}}},
        {"modalities": {"image": {"data": secret + "*"}}},
        {"schema_version": secret},
        {"expected_modalities": [secret]},
    ):
        assert secret not in refused(message(**changes)).detail
    assert secret not in refused(record(f'{{"{secret}": {secret}'.encode())).detail


def test_json_and_messagepack_mean_the_same() -> None:
    plain = message(correlation_id="c", source="camera-3", expected_modalities=["text", "image"])
    raw = {**plain, "modalities": {"image": {"data": b"raw"}, "text": {"data": "a caption"}}}
    assert accepted(plain) == accepted(packed(raw))
    assert accepted(plain).modalities["image"].data == b"raw"
    assert accepted(plain).expected == ("image", "text")


def test_the_content_type_may_carry_parameters() -> None:
    body = json.dumps(message()).encode()
    assert accepted(record(body, ("Content-Type", b"Application/JSON; charset=utf-8"))).request_id == "r1"


def test_a_text_with_a_lone_surrogate_reaches_its_modality() -> None:
    parsed = accepted(message(modalities={"text": {"data": "a\ud800b"}}))
    assert parsed.modalities["text"].data == "a\ud800b"


def test_times_are_utc_and_nanoseconds_are_cut() -> None:
    parsed = accepted(message(produced_at="2026-03-01T13:00:00.123456789+01:00"))
    assert parsed.produced_at.isoformat() == "2026-03-01T12:00:00.123456+00:00"


def test_an_id_of_128_characters_is_accepted() -> None:
    assert len(accepted(message(request_id="é" * 128)).request_id) == 128


@given(st.binary(max_size=300), st.sampled_from([b"application/json", b"application/msgpack", b"", b"\xff"]))
def test_arbitrary_bytes_never_raise(value: bytes, kind: bytes) -> None:
    assert isinstance(PARSER.parse(record(value, ("content-type", kind))), Refusal)


_TEXT = st.sampled_from(["", "image", "text", "data", "captured_at", "a\0", "é", "2026-03-01T12:00:00Z"])
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | _TEXT
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from(["schema_version", "request_id", "produced_at", "modalities", "source", "expected_modalities"]),
        _VALUES,
    )
)
def test_arbitrary_fields_never_raise(changes: dict[str, Any]) -> None:
    parsed = PARSER.parse(packed(message(**changes)))
    assert isinstance(parsed, Request | Refusal)


def test_extension_types_are_refused_not_raised() -> None:
    value = message(modalities={"text": {"data": msgspec.msgpack.Ext(5, b"x")}})
    assert refused(packed(value)).code is Code.FIELD_INVALID

"""The wire contracts: what a producer may send, and what it gets back, field by field."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import msgspec
import pytest

from inference.answers import AnswerWriter, Outgoing
from inference.errors import Refusal
from inference.feedback import Label, parse
from inference.hashing import Hasher
from inference.modalities.base import modalities
from inference.record import Header, Record
from inference.request import Request, RequestParser
from tests.support.local import LocalPath

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PARSER = RequestParser({"image": bytes, "text": str})
HASHER = Hasher("k1", b"k" * 32)
JSON_REQUEST = (
    b'{"schema_version": 1, "request_id": "req-1", "produced_at": "2026-03-01T11:59:59.5Z",'
    b' "correlation_id": "corr-1", "source": "camera-3",'
    b' "modalities": {"image": {"data": "AAH/", "captured_at": "2026-03-01T11:59:58Z"}, "text": {"data": "a cat"}},'
    b' "expected_modalities": ["image", "text"]}'
)


def record(value: bytes, *headers: Header) -> Record:
    return Record("fusion.requests", 3, 41, b"key-1", value, headers, 100.0, NOW)


def written(value: bytes, *headers: Header) -> Outgoing:
    (outcome,) = LocalPath().run([record(value, *headers)])
    return AnswerWriter("fusion.predictions", "fusion.requests.dlq").encode(outcome)


def test_a_json_request_is_read_as_documented() -> None:
    request = PARSER.parse(record(JSON_REQUEST))
    assert isinstance(request, Request)
    assert (request.request_id, request.correlation_id, request.source) == ("req-1", "corr-1", "camera-3")
    assert request.produced_at == datetime(2026, 3, 1, 11, 59, 59, 500_000, UTC)
    assert request.modalities["image"].data == b"\x00\x01\xff"
    assert request.modalities["image"].captured_at == datetime(2026, 3, 1, 11, 59, 58, tzinfo=UTC)
    assert request.modalities["text"].data == "a cat"
    assert request.expected == ("image", "text")


def test_a_messagepack_request_is_read_as_documented() -> None:
    # written out by hand after the MessagePack specification, not by the library that reads it
    value = (
        b"\x84"
        b"\xaeschema_version\x01"
        b"\xaarequest_id\xa5req-1"
        b"\xabproduced_at\xb42026-03-01T11:59:59Z"
        b"\xaamodalities\x82"
        b"\xa5image\x81\xa4data\xc4\x03\x00\x01\xff"
        b"\xa4text\x81\xa4data\xa5a cat"
    )
    request = PARSER.parse(record(value, ("content-type", b"application/msgpack")))
    assert isinstance(request, Request)
    assert request.modalities["image"].data == b"\x00\x01\xff"
    assert request.modalities["text"].data == "a cat"
    assert request.expected is None


def test_sequences_and_tables_are_read_as_documented() -> None:
    # a .npy file written out by hand after its format's description: two frames of two float16 features
    text = b"{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2), }".ljust(117) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\x00\x3c\x00\xc0\x00\x00\x00\x38"
    parser = RequestParser({name: modality.wire for name, modality in modalities().items()})
    body = (
        b'{"schema_version": 1, "request_id": "req-1", "produced_at": "2026-03-01T11:59:59Z", "modalities": {'
        b'"audio": {"data": "' + base64.b64encode(npy) + b'"}, "video": null, '
        b'"tabular": {"data": {"weight": 2, "colour": "red", "worn": true, "age": null}}}}'
    )
    request = parser.parse(record(body))
    assert isinstance(request, Request)
    decoded = {name: modalities()[name].decode(given.data) for name, given in request.modalities.items()}
    assert decoded["audio"].value.tolist() == [[1.0, -2.0], [0.0, 0.5]]
    assert decoded["tabular"].value == {"colour": "red", "weight": 2.0, "worn": "true"}
    other_order = body.replace(b'"weight": 2, "colour": "red"', b'"colour": "red",  "weight": 2')
    same = parser.parse(record(other_order))
    assert isinstance(same, Request)
    assert same.modalities["tabular"].data == request.modalities["tabular"].data, "one digest whatever the order"
    packed = msgspec.msgpack.encode(json.loads(body) | {"modalities": {"audio": {"data": npy}}})
    again = parser.parse(record(packed, ("content-type", b"application/msgpack")))
    assert isinstance(again, Request)
    assert again.modalities["audio"].data == npy


@pytest.mark.parametrize("data", ["age: 3", [1], 3, {"age": b"3"}, {3: 3}])
def test_a_table_that_is_no_object_is_refused(data: object) -> None:
    message = {"schema_version": 1, "request_id": "r", "produced_at": "2026-03-01T11:59:59Z"}
    body = msgspec.msgpack.encode(message | {"modalities": {"tabular": {"data": data}}})
    packed = record(body, ("content-type", b"application/msgpack"))
    refusal = RequestParser({"image": bytes, "text": str, "tabular": dict}).parse(packed)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "field_invalid"
    assert refusal.detail.startswith("modalities.tabular.data must be an object of numbers and strings")


def test_an_answer_has_the_documented_fields() -> None:
    headers = (("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tenant", b"a"))
    sent = written(JSON_REQUEST, *headers)
    answer = json.loads(sent.value or b"")
    assert (sent.topic, sent.key) == ("fusion.predictions", b"req-1")
    assert sent.headers == (*headers, ("correlation-id", b"corr-1"), ("content-type", b"application/json"))
    assert set(answer.pop("latency_ms")) == {"queue", "preprocess", "encode", "fuse", "total"}
    probabilities = answer.pop("probabilities")
    assert set(probabilities) == {"consistent", "misleading"}
    assert abs(sum(probabilities.values()) - 1) < 1e-6
    assert answer.pop("confidence") == max(probabilities.values())
    assert answer == {
        "schema_version": 1,
        "request_id": "req-1",
        "correlation_id": "corr-1",
        "model_version": "tiny-1",
        "route": "fallback:text",
        "prediction": "misleading",
        "modalities": {"image": "corrupt", "text": "present"},
        "degraded": True,
    }


def test_an_answer_without_a_usable_output_says_so() -> None:
    body = JSON_REQUEST.replace(b"a cat", b"7 chars")
    answer = json.loads(written(body).value or b"")
    assert answer["error_code"] == "model_not_finite"
    assert answer["prediction"] is answer["confidence"] is answer["probabilities"] is None


def test_a_dead_letter_has_the_original_bytes_and_headers_and_the_reason() -> None:
    sent = written(b'{"schema_version": 9}', ("traceparent", b"t"), ("content-type", b"application/json"))
    assert (sent.topic, sent.key, sent.value) == ("fusion.requests.dlq", b"key-1", b'{"schema_version": 9}')
    assert sent.headers == (
        ("traceparent", b"t"),
        ("content-type", b"application/json"),
        ("error-code", b"unknown_schema_version"),
        ("error-detail", b"schema_version must be 1, found 9"),
        ("origin-topic", b"fusion.requests"),
        ("origin-partition", b"3"),
        ("origin-offset", b"41"),
    )


def test_a_label_is_read_as_documented() -> None:
    label = parse(
        record(
            b'{"schema_version": 1, "request_id": "req-1", "label": "misleading",'
            b' "labelled_at": "2026-02-28T08:00:00+01:00", "source": "human_review",'
            b' "verdict": "false_positive", "annotator": "ann@example.org", "sampling_probability": 0.25}'
        ),
        HASHER,
    )
    assert label == Label(
        request_id="req-1",
        label="misleading",
        labelled_at=datetime(2026, 2, 28, 7, 0, tzinfo=UTC),
        source="human_review",
        verdict="false_positive",
        annotator_digest=HASHER.digest("ann@example.org"),
        key_id="k1",
        sampling_probability=0.25,
    )
    assert "ann@example.org" not in repr(label)


@pytest.mark.parametrize("probability", ["0", "-0.1", "1.01", "true", '"0.5"', "1e-300", "[0.5]"])
def test_a_label_with_an_impossible_sampling_probability_is_refused(probability: str) -> None:
    value = (
        b'{"schema_version": 1, "request_id": "req-1", "label": "misleading", "source": "ground_truth",'
        b' "labelled_at": "2026-02-28T08:00:00Z", "sampling_probability": ' + probability.encode() + b"}"
    )
    refusal = parse(record(value), HASHER)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "field_invalid"
    assert "sampling_probability" in refusal.detail

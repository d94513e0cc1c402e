"""The wire contract of observations: what a team that serves its model elsewhere may send, field by field."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from inference.errors import Code, Refusal
from inference.modalities.base import Status
from inference.observations import FIELDS, PART_FIELDS, Observation, parse
from inference.outcome import ModalityOutcome
from inference.record import Header, Record

PAGE = Path(__file__).parents[2] / "docs/requests.md"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
JSON_OBSERVATION = b"""{
  "schema_version": 1, "request_id": "req-1", "produced_at": "2026-03-01T11:59:59.5Z", "model_version": "2026-02",
  "correlation_id": "corr-1", "source": "camera-3",
  "probabilities": {"consistent": 0.9, "misleading": 0.1},
  "route": "fallback:text", "agreement": false,
  "expected_modalities": ["image", "text"],
  "modalities": {
    "image": {"status": "corrupt", "reason": "truncated", "captured_at": "2026-03-01T11:59:58Z"},
    "text": {"status": "present", "digest": "00ff000000000000000000000000000000000000000000000000000000000001",
             "key_id": "their-key", "quality": {"tokens": 12}, "embedding": [0.5, -1.25]}},
  "fused_embedding": [1, 2, 3],
  "encoder_fingerprints": {"text": "bert-7", "fused": "late-2"},
  "latency_ms": {"queue": 1, "preprocess": 2.5, "encode": 3, "fuse": 4, "total": 10.5}
}"""


def record(value: bytes, *headers: Header) -> Record:
    return Record("fusion.observations", 3, 41, b"key-1", value, headers, 100.0, NOW)


def test_a_json_observation_is_read_as_documented() -> None:
    found = parse(record(JSON_OBSERVATION), 2_000_000)
    assert isinstance(found, Observation), found
    assert (found.request_id, found.model_version) == ("req-1", "2026-02")
    assert (found.correlation_id, found.source) == ("corr-1", "camera-3")
    assert found.produced_at == datetime(2026, 3, 1, 11, 59, 59, 500_000, UTC)
    assert found.probabilities == {"consistent": 0.9, "misleading": 0.1}
    assert (found.error, found.route, found.agreement) == (None, "fallback:text", False)
    assert found.expected == ("image", "text")
    assert found.modalities == {
        "image": ModalityOutcome(Status.CORRUPT, "truncated", None, datetime(2026, 3, 1, 11, 59, 58, tzinfo=UTC), {}),
        "text": ModalityOutcome(
            Status.PRESENT, None, b"\x00\xff" + b"\0" * 29 + b"\x01", None, {"tokens": 12.0}, "their-key"
        ),
    }
    assert {name: vector.tolist() for name, vector in found.embeddings.items()} == {
        "text": [0.5, -1.25],
        "fused": [1.0, 2.0, 3.0],
    }
    assert found.encoders == {"text": "bert-7", "fused": "late-2"}
    assert found.left_out == {}
    assert found.latency_ms == {"queue": 1, "preprocess": 2.5, "encode": 3, "fuse": 4, "total": 10.5}


def test_the_example_that_people_copy_is_an_observation() -> None:
    section = PAGE.read_text().split("## Observe a model served elsewhere")[1]
    example = section.split("```json\n")[1].split("```")[0]
    found = parse(record(example.encode()), 2_000_000)
    assert isinstance(found, Observation), found
    assert set(found.embeddings) == {"image", "fused"}
    assert all(f"`{name}`" in section or f'"{name}"' in example for name in FIELDS | PART_FIELDS)


def test_a_messagepack_observation_is_read_as_documented() -> None:
    # written out by hand after the MessagePack specification, not by the library that reads it
    value = (
        b"\x88"
        b"\xaeschema_version\x01"
        b"\xaarequest_id\xa5req-1"
        b"\xabproduced_at\xb42026-03-01T11:59:59Z"
        b"\xadmodel_version\xa72026-02"
        b"\xadprobabilities\x82\xa2no\xcb" + struct.pack(">d", 0.25) + b"\xa3yes\xcb" + struct.pack(">d", 0.75) +
        b"\xaamodalities\x82"
        b"\xa5image\x81\xa6status\xa7missing"
        b"\xa4text\x83\xa6status\xa7present\xa5dtype\xa7float32\xa9embedding\xc4\x08" + struct.pack("<2f", 1.5, -2.0) +
        b"\xaffused_embedding\xc4\x02" + struct.pack("<e", 0.5) +
        b"\xabfused_dtype\xa7float16"
    )  # fmt: skip
    found = parse(record(value, ("content-type", b"application/msgpack")), 2_000_000)
    assert isinstance(found, Observation), found
    assert found.probabilities == {"no": 0.25, "yes": 0.75}
    assert {name: part.status for name, part in found.modalities.items()} == {
        "image": Status.MISSING,
        "text": Status.PRESENT,
    }
    assert found.embeddings["text"].tolist() == [1.5, -2.0]
    assert found.embeddings["fused"].tolist() == [0.5]
    assert found.embeddings["text"].dtype == np.float32


def test_the_fields_are_those_documented() -> None:
    assert sorted(FIELDS) == [
        "agreement",
        "correlation_id",
        "encoder_fingerprints",
        "error_code",
        "expected_modalities",
        "fused_dtype",
        "fused_embedding",
        "latency_ms",
        "modalities",
        "model_version",
        "probabilities",
        "produced_at",
        "request_id",
        "route",
        "schema_version",
        "source",
    ]
    assert sorted(PART_FIELDS) == [
        "captured_at",
        "digest",
        "dtype",
        "embedding",
        "key_id",
        "quality",
        "reason",
        "status",
    ]


def test_an_input_sent_by_mistake_refuses_the_message() -> None:
    body = JSON_OBSERVATION.replace(b'"status": "corrupt"', b'"status": "corrupt", "data": "/9j/4AAQSkZJRg=="')
    refusal = parse(record(body), 2_000_000)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.FIELD_UNKNOWN
    assert "9j" not in refusal.detail

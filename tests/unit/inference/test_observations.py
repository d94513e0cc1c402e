"""Observations: what is accepted, what is refused with which reason, and what row becomes of one."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.clock import ClockTolerance
from inference.errors import Code, Refusal
from inference.modalities.base import Status
from inference.observations import FIELDS, PART_FIELDS, Observation, parse
from inference.observed_rows import ObservedRow, row
from inference.observed_versions import Known
from inference.outcome import Predicted
from tests.unit.inference.messages import NOW, packed, record

MAX_BYTES = 2_000_000
PRESENT = {"status": "present"}


def message(**changes: Any) -> dict[str, Any]:
    """A valid observation; `changes` replace fields, and `...` removes one."""
    fields: dict[str, Any] = {
        "schema_version": 1,
        "request_id": "r1",
        "produced_at": "2026-03-01T12:00:00Z",
        "model_version": "2026-02",
        "probabilities": {"no": 0.25, "yes": 0.75},
        "modalities": {"image": dict(PRESENT), "text": dict(PRESENT)},
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def image(**changes: Any) -> dict[str, Any]:
    return message(modalities={"image": {**PRESENT, **changes}, "text": dict(PRESENT)})


def accepted(value: Any) -> Observation:
    parsed = parse(value if not isinstance(value, dict) else record(value), MAX_BYTES)
    assert isinstance(parsed, Observation), parsed
    return parsed


def refused(value: Any) -> Refusal:
    parsed = parse(value if not isinstance(value, dict) else record(value), MAX_BYTES)
    assert isinstance(parsed, Refusal), parsed
    return parsed


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (message(schema_version=2), Code.UNKNOWN_SCHEMA_VERSION),
        (message(request_id=...), Code.REQUEST_ID_MISSING),
        (message(produced_at="yesterday"), Code.PRODUCED_AT_INVALID),
        (message(model_version=...), Code.FIELD_INVALID),
        (message(model_version="v" * 257), Code.FIELD_INVALID),
        (message(data="the caption"), Code.FIELD_UNKNOWN),
        (image(data="aGVsbG8="), Code.FIELD_UNKNOWN),
        (message(modalities={}), Code.NO_MODALITY),
        (message(modalities=...), Code.NO_MODALITY),
        (message(modalities=["image"]), Code.FIELD_INVALID),
        (message(modalities={"fused": PRESENT}), Code.FIELD_INVALID),
        (message(modalities={"a caption, with spaces": PRESENT}), Code.FIELD_INVALID),
        (message(modalities={f"m{i}": PRESENT for i in range(17)}), Code.FIELD_INVALID),
        (message(modalities={"image": "present"}), Code.FIELD_INVALID),
        (message(modalities={"image": {}}), Code.FIELD_INVALID),
        (image(status="fine"), Code.FIELD_INVALID),
        (image(status=["present"]), Code.FIELD_INVALID),
        (image(reason="the text said something"), Code.FIELD_INVALID),
        (image(captured_at="noon"), Code.CAPTURED_AT_INVALID),
        (image(digest="ab" * 32), Code.FIELD_INVALID),  # whose key?
        (image(digest="ab" * 31, key_id="k9"), Code.FIELD_INVALID),
        (image(digest="zz" * 32, key_id="k9"), Code.FIELD_INVALID),
        (image(quality={"noise": "high"}), Code.FIELD_INVALID),
        (image(quality={"noise": True}), Code.FIELD_INVALID),
        (image(quality={"noise": 1e13}), Code.FIELD_INVALID),
        (image(quality={"a name": 1}), Code.FIELD_INVALID),
        (image(quality={f"q{i}": 1 for i in range(65)}), Code.FIELD_INVALID),
        (message(probabilities={}), Code.PROBABILITIES_INVALID),
        (message(probabilities=[0.5, 0.5]), Code.PROBABILITIES_INVALID),
        (message(probabilities={"a": 0.5, "b": 0.498}), Code.PROBABILITIES_INVALID),
        (message(probabilities={"a": 1.5, "b": -0.5}), Code.PROBABILITIES_INVALID),
        (message(probabilities={"a": True}), Code.PROBABILITIES_INVALID),
        (message(probabilities={"a": "1"}), Code.PROBABILITIES_INVALID),
        (message(probabilities={"": 1.0}), Code.PROBABILITIES_INVALID),
        (message(probabilities={"a\0": 1.0}), Code.PROBABILITIES_INVALID),
        (message(probabilities={f"c{i}": 1 / 1001 for i in range(1001)}), Code.PROBABILITIES_INVALID),
        (message(error_code="model_failed"), Code.FIELD_INVALID),
        (message(probabilities=None, error_code="it broke"), Code.FIELD_INVALID),
        (message(route="guess"), Code.FIELD_INVALID),
        (message(route=1), Code.FIELD_INVALID),
        (message(expected_modalities="image"), Code.FIELD_INVALID),
        (message(expected_modalities=[1]), Code.FIELD_INVALID),
        (message(agreement="yes"), Code.FIELD_INVALID),
        (message(latency_ms={"total": -1}), Code.FIELD_INVALID),
        (message(latency_ms={"total": "fast"}), Code.FIELD_INVALID),
        (message(latency_ms={"network": 1}), Code.FIELD_UNKNOWN),
        (message(encoder_fingerprints={"image": 7}), Code.FIELD_INVALID),
        (message(encoder_fingerprints={"image": ""}), Code.FIELD_INVALID),
        (record(b"not json"), Code.NOT_DECODABLE),
        (record(None), Code.MESSAGE_EMPTY),
        (record(b" " * (MAX_BYTES + 1)), Code.MESSAGE_TOO_LARGE),
        (packed(message(probabilities={"a": float("nan"), "b": 1.0})), Code.PROBABILITIES_INVALID),
        (packed(message(probabilities={1: 1.0})), Code.PROBABILITIES_INVALID),
        (packed(image(quality={"noise": float("nan")})), Code.FIELD_INVALID),
        (packed(message(latency_ms={"total": float("inf")})), Code.FIELD_INVALID),
        (packed({**message(), b"data": b"jpeg"}), Code.FIELD_UNKNOWN),
    ],
)
def test_what_is_refused_and_why(value: Any, code: Code) -> None:
    assert refused(value).code is code


@pytest.mark.parametrize(
    "value",
    [
        message(**{"SECRET caption": 1}),
        image(**{"SECRET caption": 1}),
        message(modalities={"SECRET caption": PRESENT}),
        image(reason="SECRET caption"),
        image(quality={"SECRET caption": 1}),
        image(quality={"noise": "SECRET caption"}),
        message(probabilities={"SECRET caption": 2}),
        message(error_code="SECRET caption"),
        message(route="SECRET caption"),
        message(latency_ms={"SECRET caption": 1}),
        image(digest="SECRET caption"),
    ],
)
def test_a_refusal_repeats_nothing_of_the_message(value: dict[str, Any]) -> None:
    assert "SECRET" not in refused(value).detail


def test_no_key_of_the_contract_could_hold_an_input() -> None:
    assert not {"data", "text", "image", "url", "caption", "prompt"} & (FIELDS | PART_FIELDS)


def test_a_sum_of_rounded_probabilities_is_accepted() -> None:
    assert accepted(message(probabilities={"a": 0.333, "b": 0.333, "c": 0.333})).probabilities is not None


def test_an_unusable_answer_is_an_observation_with_a_reason() -> None:
    assert accepted(message(probabilities=None)).error is Code.MODEL_FAILED
    assert accepted(message(probabilities=..., error_code="model_not_finite")).error is Code.MODEL_NOT_FINITE
    assert accepted(message()).error is None


def test_a_number_beyond_all_types_is_no_embedding() -> None:
    assert accepted(image(embedding=[2**70, 1])).left_out == {"image": "not_numbers"}


FLOATS = [0.5, -1.25, 3.0]


@pytest.mark.parametrize(
    ("embedding", "dtype"),
    [
        (FLOATS, None),
        (struct.pack("<3f", *FLOATS), "float32"),
        (struct.pack("<3e", *FLOATS), "float16"),
    ],
)
def test_an_embedding_comes_as_numbers_or_as_little_endian_bytes(embedding: Any, dtype: str | None) -> None:
    named = {} if dtype is None else {"dtype": dtype}
    sent = image(embedding=embedding, **named) | {"fused_embedding": embedding, "fused_dtype": dtype}
    parsed = accepted(packed(sent))
    assert parsed.left_out == {}
    for name in ("image", "fused"):
        assert parsed.embeddings[name].dtype == np.float32
        assert parsed.embeddings[name].tolist() == FLOATS


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"embedding": []}, "empty"),
        ({"embedding": b"", "dtype": "float32"}, "empty"),
        ({"embedding": [0.0] * 8193}, "too_wide"),
        ({"embedding": b"\0" * 2 * 8193, "dtype": "float16"}, "too_wide"),
        ({"embedding": [1.0, float("nan")]}, "not_finite"),
        ({"embedding": struct.pack("<2f", 1.0, float("-inf")), "dtype": "float32"}, "not_finite"),
        ({"embedding": [1.0, 1e7]}, "too_large"),
        ({"embedding": [-(2**63), 1]}, "too_large"),
        ({"embedding": [2**64 - 1]}, "too_large"),
        ({"embedding": ["1.0", "2.0"]}, "not_numbers"),
        ({"embedding": [1.0, None]}, "not_numbers"),
        ({"embedding": [True, False]}, "not_numbers"),
        ({"embedding": [[1.0], [2.0]]}, "not_numbers"),
        ({"embedding": [[1.0], [2.0, 3.0]]}, "not_numbers"),
        ({"embedding": "AAAA"}, "not_numbers"),
        ({"embedding": b"\0" * 8}, "dtype_unknown"),
        ({"embedding": b"\0" * 8, "dtype": "float64"}, "dtype_unknown"),
        ({"embedding": b"\0" * 8, "dtype": 4}, "dtype_unknown"),
        ({"embedding": b"\0" * 7, "dtype": "float32"}, "bytes_do_not_fit"),
        ({"embedding": [1.0], "status": "stale"}, "not_present"),
    ],
)
def test_an_embedding_that_cannot_be_used_is_left_out_and_the_rest_counts(part: dict[str, Any], reason: str) -> None:
    parsed = accepted(packed(image(**part)))
    assert (parsed.left_out, dict(parsed.embeddings)) == ({"image": reason}, {})
    assert parsed.probabilities == {"no": 0.25, "yes": 0.75}


def test_json_and_messagepack_mean_the_same() -> None:
    sent = image(
        status="stale", reason="frozen_feed", digest="AB" * 32, key_id="k9", quality={"noise": 2}, captured_at=None
    ) | {"agreement": False, "latency_ms": {"total": 12}, "route": "fallback:text", "expected_modalities": ["text"]}
    assert accepted(sent) == accepted(packed(sent))
    part = accepted(sent).modalities["image"]
    assert (part.status, part.reason, part.digest, part.key_id) == (Status.STALE, "frozen_feed", b"\xab" * 32, "k9")
    assert part.quality == {"noise": 2.0}


# Pieces of the contract among others, so that random messages come near to real ones.
_WORDS = st.sampled_from(
    [*sorted(FIELDS | PART_FIELDS), "present", "stale", "fused", "image", "total", "a\0", "\ud800"]
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.floats(0, 1)
    | _WORDS
    | st.binary(max_size=16),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=8,
)


@given(st.data())
def test_no_value_in_any_place_raises_or_poisons_a_summary(data: st.DataObject) -> None:
    sent = image(embedding=FLOATS, quality={"noise": 1.0}) | {"fused_embedding": FLOATS}
    place: Any = data.draw(st.sampled_from([sent, sent["modalities"], sent["modalities"]["image"]]))
    place[data.draw(st.sampled_from(sorted(place)) | _WORDS)] = data.draw(_VALUES)
    try:
        body = msgspec.msgpack.encode(sent)
    except (UnicodeEncodeError, OverflowError):  # MessagePack cannot say it
        return
    parsed = parse(record(body, ("content-type", b"application/msgpack")), MAX_BYTES)
    if isinstance(parsed, Refusal):
        return
    found = observed(parsed, known())
    if isinstance(found, ObservedRow):
        prediction = found.predicted.prediction
        vectors = [*prediction.embeddings.values(), *prediction.quality.values()]
        # summed over a day of a thousand rows a second
        assert all(np.isfinite(np.square(vector, dtype=np.float32)).all() for vector in vectors)
        assert prediction.confidence is None or 0 <= prediction.confidence <= 1


@given(st.binary(max_size=300), st.sampled_from([b"application/json", b"application/msgpack", b"", b"\xff"]))
def test_arbitrary_bytes_never_raise(value: bytes, kind: bytes) -> None:
    assert isinstance(parse(record(value, ("content-type", kind)), MAX_BYTES), Refusal)


def known(**changes: Any) -> Known:
    """The version that `message` tells of; `changes` replace fields."""
    fields: dict[str, Any] = {
        "version": "2026-02",
        "classes": ("yes", "no"),
        "class_set": frozenset({"yes", "no"}),
        "modalities": ("image", "text"),
        "encoders": {"image": "vit", "text": "bert", "fused": "cross"},
        "quality": {"image": ("noise",)},
        "widths": {},
        "used": 0.0,
        **changes,
    }
    return Known(**fields)


def observed(parsed: Observation, version: Known) -> ObservedRow | Refusal:
    return row(record(b"", offset=7), parsed, version, ClockTolerance())


def made(value: dict[str, Any], **changes: Any) -> ObservedRow:
    found = observed(accepted(packed(value)), known(**changes))
    assert isinstance(found, ObservedRow), found
    return found


def predicted(value: dict[str, Any], **changes: Any) -> Predicted:
    return made(value, **changes).predicted


def test_a_row_is_what_the_model_answered_in_the_versions_order_of_classes() -> None:
    found = predicted(message(agreement=True, latency_ms={"queue": 1, "encode": 2, "fuse": 4}, correlation_id="c"))
    prediction = found.prediction
    assert (prediction.label, prediction.confidence, prediction.route) == ("yes", 0.75, "fused")
    assert prediction.probabilities is not None
    assert prediction.probabilities.tolist() == [0.75, 0.25]
    assert (found.degraded, found.quarantine, prediction.agreement, prediction.error) == (False, None, True, None)
    assert (found.queue_ms, prediction.encode_ms, prediction.fuse_ms, found.total_ms) == (1, 2, 4, 7)
    assert (found.request.correlation_id, found.request.produced_at) == ("c", NOW)
    assert predicted(message(latency_ms={"encode": 2, "total": 9})).total_ms == 9


def test_of_equal_probabilities_the_versions_first_class_is_the_answer() -> None:
    assert predicted(message(probabilities={"no": 0.5, "yes": 0.5})).prediction.label == "yes"


@pytest.mark.parametrize(
    ("changes", "route", "degraded"),
    [
        ({}, "fused", False),
        ({"modalities": {"text": PRESENT}}, "fallback:text", True),
        ({"modalities": {"text": PRESENT}, "expected_modalities": ["text"]}, "fallback:text", False),
        ({"modalities": {"image": {"status": "corrupt"}, "text": PRESENT}}, "fallback:text", True),
        ({"modalities": {"image": {"status": "missing"}}}, "fallback:none", True),
        ({"route": "fallback:text+image"}, "fallback:image+text", False),
        ({"route": "cached"}, "cached", False),
    ],
)
def test_the_route_tells_what_was_answered_from(changes: dict[str, Any], route: str, degraded: bool) -> None:
    found = predicted(message(**changes))
    assert (found.prediction.route, found.degraded) == (route, degraded)


def test_an_expected_modality_that_is_not_mentioned_is_missing() -> None:
    parts = predicted(message(modalities={"text": PRESENT})).modalities
    assert {name: (part.status, part.reason) for name, part in parts.items()} == {
        "image": (Status.MISSING, "not_sent"),
        "text": (Status.PRESENT, None),
    }
    unexpected = predicted(message(modalities={"text": PRESENT}, expected_modalities=["text"]))
    assert set(unexpected.modalities) == {"text"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"modalities": {"smell": PRESENT}}, Code.UNKNOWN_MODALITY),
        ({"expected_modalities": ["smell"]}, Code.UNKNOWN_MODALITY),
        ({"route": "fallback:smell"}, Code.FIELD_INVALID),
        ({"route": "fallback:"}, Code.FIELD_INVALID),
    ],
)
def test_what_the_model_does_not_take_is_refused(changes: dict[str, Any], code: Code) -> None:
    found = observed(accepted(message(**changes)), known())
    assert isinstance(found, Refusal)
    assert (found.code, "smell" in found.detail) == (code, False)


def test_an_error_row_has_no_figures() -> None:
    prediction = predicted(message(probabilities=None)).prediction
    assert (prediction.error, prediction.label, prediction.confidence) == (Code.MODEL_FAILED, None, None)


def test_clocks_far_off_are_quarantined() -> None:
    for hours, reason in ((1, "produced_in_future"), (-25, "produced_too_old")):
        at = (NOW + timedelta(hours=hours)).isoformat()
        assert predicted(message(produced_at=at)).quarantine == reason


def test_embeddings_of_another_width_or_encoder_are_left_out() -> None:
    sent = image(embedding=FLOATS) | {"fused_embedding": FLOATS}
    found = made(sent, widths={"image": 4, "fused": 3})
    assert set(found.predicted.prediction.embeddings) == {"fused"}
    assert ("image", "other_width") in found.left_out
    version = known()
    for width, kept in ((3, True), (2, False), (3, True)):  # the first one seen counts
        found_row = observed(accepted(image(embedding=FLOATS[:width])), version)
        assert isinstance(found_row, ObservedRow)
        assert ("image" in found_row.predicted.prediction.embeddings) is kept
    other = made({**sent, "encoder_fingerprints": {"image": "vit", "fused": "late"}})
    assert set(other.predicted.prediction.embeddings) == {"image"}
    assert ("fused", "other_encoder") in other.left_out


def test_quality_is_logged_whatever_it_is_and_summarised_where_it_is_complete() -> None:
    whole = made(image(quality={"noise": 2.0, "blur": 1.0}))
    assert whole.predicted.prediction.quality["image"].tolist() == [2.0]
    assert whole.predicted.modalities["image"].quality == {"noise": 2.0, "blur": 1.0}
    part = made(image(quality={"blur": 1.0}))
    assert "image" not in part.predicted.prediction.quality
    assert part.left_out == (("image", "quality"),)


def test_times_are_utc() -> None:
    parsed = accepted(image(captured_at="2026-03-01T13:00:00+01:00"))
    assert parsed.modalities["image"].captured_at == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_header_says_which_format() -> None:
    body = json.dumps(message()).encode()
    assert accepted(record(body, ("Content-Type", b"Application/JSON; charset=utf-8"))).request_id == "r1"
    assert refused(record(body, ("content-type", b"application/msgpack"))).code is Code.NOT_DECODABLE

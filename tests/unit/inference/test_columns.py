"""Feature sequences and tables: limits that hold whatever the bytes, statistics, and the arrays that a model takes."""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from demo.sequences import npy
from inference.modalities import _sequence, audio, tabular, video
from inference.modalities.base import Status
from inference.models.columns import SequenceSettings, TabularSettings
from inference.models.preprocess import Preprocessor

FRAMES = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
SETTINGS = TabularSettings(
    {"age": (40.0, 10.0), "height": (1.7, 0.1)}, {"colour": ("blue", "red"), "store": ("3", "7")}
)
TABLES = Preprocessor(tabular=SETTINGS)


def pickled() -> bytes:
    """An array of objects, whose reading would run code."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([[object()]], object), allow_pickle=True)
    return buffer.getvalue()


def with_header(text: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@settings(max_examples=30)
@given(
    values=arrays.arrays(
        np.float16,
        st.tuples(st.integers(1, 9), st.integers(1, 5)),
        elements=st.floats(-1000, 1000, width=16, allow_nan=False),
    ),
    dtype=st.sampled_from([np.float16, np.float32]),
    order=st.sampled_from(["C", "F"]),
)
def test_what_numpy_writes_comes_back(values: Any, dtype: Any, order: Any) -> None:
    decoded = audio.MODALITY.decode(npy(np.asarray(values, dtype, order=order)))
    assert decoded.status is Status.PRESENT
    assert decoded.value.dtype == np.float32
    assert np.array_equal(decoded.value, values.astype(np.float32))


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"", Status.MISSING, "empty"),
        (npy(np.zeros((0, 4), np.float32)), Status.MISSING, "empty"),
        (b"not an array", Status.CORRUPT, "undecodable"),
        (npy(FRAMES)[:-1], Status.CORRUPT, "truncated"),
        (npy(FRAMES) + b"\0", Status.CORRUPT, "truncated"),
        (npy(FRAMES)[:20], Status.CORRUPT, "undecodable"),
        (npy(np.full((2, 2), np.nan, np.float32)), Status.CORRUPT, "not_finite"),
        (npy(np.full((2, 2), 1e7, np.float32)), Status.REJECTED, "values_too_large"),
        (npy(FRAMES.astype(np.float64)), Status.REJECTED, "type_not_allowed"),
        (npy(FRAMES.astype(np.int16)), Status.REJECTED, "type_not_allowed"),
        (npy(FRAMES.astype(">f4")), Status.REJECTED, "type_not_allowed"),
        (pickled(), Status.REJECTED, "type_not_allowed"),
        (npy(FRAMES[0]), Status.REJECTED, "shape_not_allowed"),
        (npy(FRAMES[None]), Status.REJECTED, "shape_not_allowed"),
        (npy(np.zeros((8193, 1), np.float16)), Status.REJECTED, "too_many_frames"),
        (npy(np.zeros((1, 4097), np.float16)), Status.REJECTED, "too_many_features"),
        (bytes(4_000_001), Status.REJECTED, "too_large"),
        (pickle.dumps(FRAMES), Status.CORRUPT, "undecodable"),
    ],
)
def test_an_unusable_sequence_has_a_reason(data: bytes, status: Status, reason: str) -> None:
    decoded = video.MODALITY.decode(data)
    assert (decoded.status, decoded.reason, decoded.value) == (status, reason, None)


def test_a_header_that_promises_more_than_there_is_allocates_nothing() -> None:
    huge = b"{'descr': '<f4', 'fortran_order': False, 'shape': (8192, 4096), }\n"
    assert video.MODALITY.decode(with_header(huge)).reason == "truncated"
    bomb = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }\n"
    assert video.MODALITY.decode(with_header(bomb)).reason == "too_many_frames"
    assert video.MODALITY.decode(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").reason == "undecodable"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_never_an_exception(data: bytes) -> None:
    assert audio.MODALITY.decode(data).status is not Status.PRESENT
    assert audio.MODALITY.decode(b"\x93NUMPY" + data).value is None
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + data.replace(b")", b"")[:60] + b"), }\n"
    audio.MODALITY.decode(with_header(header))


def test_sequence_statistics_follow_what_they_name() -> None:
    rng, time = np.random.default_rng(1), np.linspace(0, 6.28, 2000, dtype=np.float32)[:, None]
    noise = dict(zip(_sequence.QUALITY, _sequence.measure(rng.normal(2, 3, (2000, 4)).astype(np.float32)), strict=True))
    assert noise == pytest.approx({"frames": 2000, "level": 2, "spread": 3, "change": 1, "still_share": 0}, abs=0.15)
    slow = dict(zip(_sequence.QUALITY, _sequence.measure(np.sin(time)), strict=True))
    assert slow["spread"] == pytest.approx(0.5**0.5, abs=0.01)
    assert slow["change"] < 1e-4
    frozen = _sequence.measure(np.repeat(FRAMES[:5], 4, axis=0))
    assert frozen[_sequence.QUALITY.index("still_share")] == pytest.approx(15 / 19)
    assert _sequence.measure(FRAMES[:1]).tolist() == pytest.approx([1, FRAMES[0].mean(), 0, 0, 0])


def test_a_sequence_is_scaled_and_thinned_out_evenly() -> None:
    scale = SequenceSettings.fit([FRAMES[:7], FRAMES[7:]], max_frames=5)
    np.testing.assert_allclose(scale.mean, FRAMES.mean(0), atol=1e-6)
    np.testing.assert_allclose(scale.std, FRAMES.std(0), rtol=1e-5)
    again = SequenceSettings.from_config(json.loads(json.dumps(scale.to_config())))
    prepared = again(FRAMES)
    assert prepared["frame_mask"].tolist() == [1] * 5
    np.testing.assert_allclose(prepared["features"], ((FRAMES - scale.mean) / scale.std)[[0, 5, 10, 14, 19]], 1e-4)
    blank = again(audio.MODALITY.blank)["features"]
    assert blank.tolist() == [[0.0] * 4], "as the mean of training"
    assert Preprocessor(sequences={"audio": again}).unfit("audio", FRAMES[:, :3]) == "features_differ"
    with pytest.raises(ValueError, match="4 and 2 features; expected one number"):
        SequenceSettings.fit([FRAMES, FRAMES[:, :2]], 5)


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        ({}, Status.MISSING, "empty"),
        ({"age": None}, Status.MISSING, "empty"),
        ({"age": [3]}, Status.REJECTED, "value_not_allowed"),
        ({"age": float("nan")}, Status.REJECTED, "value_not_allowed"),
        ({"age": 10**400}, Status.REJECTED, "value_not_allowed"),
        ({"age": 1e16}, Status.REJECTED, "value_not_allowed"),
        ({"": 3}, Status.REJECTED, "value_not_allowed"),
        ({"colour": "r" * 129}, Status.REJECTED, "value_not_allowed"),
        ({str(i): i for i in range(513)}, Status.REJECTED, "too_many_columns"),
        ({"note": "n" * 65_000}, Status.REJECTED, "too_large"),
    ],
)
def test_an_unusable_table_has_a_reason(sent: dict[str, Any], status: Status, reason: str) -> None:
    decoded = tabular.MODALITY.decode(json.dumps(sent))
    assert (decoded.status, decoded.reason, decoded.value) == (status, reason, None)


def test_columns_are_scaled_coded_and_measured() -> None:
    table = tabular.MODALITY.decode('{"age": 60, "colour": "green", "store": 7, "size": 4, "height": "tall"}').value
    (prepared,) = tabular.MODALITY.prepare([table], TABLES)
    assert prepared.inputs["numbers"].tolist() == [2.0, 0.0]
    assert prepared.inputs["known"].tolist() == [1.0, 0.0]
    assert prepared.inputs["codes"].tolist() == [0, 2], "green was never seen; 7 is a store's name"
    quality = dict(zip(tabular.QUALITY, prepared.quality.tolist(), strict=True))
    assert quality == {"known_share": 0.5, "unseen_share": 0.5, "surplus": 1, "deviation": 2, "largest_deviation": 2}
    (far,) = tabular.MODALITY.prepare([{"age": 1e9}], TABLES)
    assert far.inputs["numbers"].tolist() == [10.0, 0.0]
    assert TABLES.unfit("tabular", {"size": 4.0}) == "no_known_column"


def test_columns_are_told_apart_by_what_training_rows_hold() -> None:
    rows: list[dict[str, float | str]] = [
        {"age": 30.0, "store": 3.0},
        {"age": 50.0, "store": "north", "late": "true"},
        {"age": 40.0},
    ]
    found = TabularSettings.fit(rows)
    assert found.numbers.keys() == {"age"}
    assert found.numbers["age"] == pytest.approx((40.0, (200 / 3) ** 0.5))
    assert found.categories == {"late": ("true",), "store": ("3", "north")}
    assert TabularSettings.from_config(json.loads(json.dumps(found.to_config()))) == found


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "expected lists of numbers and categories"),
        ({"numbers": [], "categories": []}, "one column at least"),
        ({"numbers": [["age", 0.0, 0.0]], "categories": []}, "positive deviation"),
        ({"numbers": [["age", 0.0]], "categories": []}, "expected lists"),
    ],
)
def test_settings_that_are_none_are_refused(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TabularSettings.from_config(config)
    with pytest.raises(ValueError, match="sequence: expected"):
        SequenceSettings.from_config({"mean": [0.0], "std": [0.0], "max_frames": 3} if config else {})

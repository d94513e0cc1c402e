"""From prepared requests to one batch: stacked, padded, and zeros where nothing was sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.collate import collate, length
from inference.modalities.base import UNREAD, Prepared

QUALITY = np.zeros(1, np.float32)
BLANKS = {
    "image": Prepared({"pixels": np.zeros((2, 3, 3), np.uint8)}, QUALITY),
    "text": Prepared({"input_ids": np.zeros(2, np.int64), "attention_mask": np.ones(2, np.int64)}, QUALITY),
}


def text(tokens: Sequence[int]) -> Prepared:
    ids = np.array(tokens, np.int64)
    return Prepared({"input_ids": ids, "attention_mask": np.ones_like(ids)}, QUALITY)


def image(value: int) -> Prepared:
    return Prepared({"pixels": np.full((2, 3, 3), value, np.uint8)}, QUALITY)


def test_rows_without_a_modality_are_zeros_and_marked() -> None:
    batch = collate([{"image": image(7), "text": text([1, 2, 3])}, {"text": text([4])}, {"image": image(9)}], BLANKS)
    assert len(batch) == 3
    assert batch.present["image"].tolist() == [True, False, True]
    assert batch.present["text"].tolist() == [True, True, False]
    assert batch.arrays["image"]["pixels"].shape == (3, 2, 3, 3)
    assert batch.arrays["image"]["pixels"].dtype == np.uint8
    assert batch.arrays["image"]["pixels"].max(axis=(1, 2, 3)).tolist() == [7, 0, 9]
    assert batch.arrays["text"]["input_ids"].tolist() == [[1, 2, 3], [4, 0, 0], [0, 0, 0]]
    assert batch.arrays["text"]["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_what_no_row_has_takes_the_shape_of_its_blank() -> None:
    batch = collate([{"text": text([1])}, {"text": text([2])}], BLANKS)
    assert batch.arrays["image"]["pixels"].shape == (2, 2, 3, 3)
    assert not batch.arrays["image"]["pixels"].any()
    assert not batch.present["image"].any()


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=5))
def test_padding_loses_nothing(captions: list[list[int]]) -> None:
    arrays = collate([{"text": text(tokens)} for tokens in captions], BLANKS).arrays["text"]
    assert arrays["input_ids"].shape == (len(captions), max(map(len, captions)))
    for ids, mask, tokens in zip(arrays["input_ids"], arrays["attention_mask"], captions, strict=True):
        assert ids[mask == 1].tolist() == tokens
        assert not ids[mask == 0].any()


def test_arrays_that_are_no_sequences_and_differ_are_refused() -> None:
    row = {"image": Prepared({"pixels": np.zeros((2, 5, 3), np.uint8)}, QUALITY)}
    with pytest.raises(ValueError, match="broadcast"):
        collate([{"image": image(1)}, row], BLANKS)


def test_what_nobody_looks_into_is_told_as_present_only() -> None:
    batch = collate([{"image": UNREAD}, {"image": UNREAD, "text": UNREAD}], {"image": UNREAD, "text": UNREAD})
    assert batch.arrays == {"image": {}, "text": {}}
    assert batch.present["text"].tolist() == [False, True]


def test_the_length_is_of_the_longest_sequence_and_pictures_have_none() -> None:
    assert length({"image": image(1), "text": text([1, 2, 3])}) == 3
    assert length({"image": image(1)}) == 0
    assert length({"text": UNREAD}) == 0
    assert length({"sound": Prepared({"frames": np.zeros((50, 8), np.float32)}, QUALITY), "text": text([1])}) == 50

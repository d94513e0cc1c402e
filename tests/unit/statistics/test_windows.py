"""Windows assembled from slots equal the direct summary; what must not be compared is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from migrations.schema.bins import from_rows
from monitor.domain.window import IncomparableError, Labelled, Summary, Window, assemble, merge

START = datetime(2026, 3, 1, tzinfo=UTC)


def part(values: list[float], fingerprint: str = "a", modality: str = "image") -> Summary:
    column = np.asarray(values, np.float32)[:, None]
    return Summary(modality, {"present": len(values)}, from_rows({"quality": column}, 1), fingerprint)


def test_counts_add_and_bins_concatenate() -> None:
    merged = merge("image", [part([1, 2]), part([3])])
    assert merged.counts == {"present": 3}
    assert merged.bins.columns["quality"][:, 0].tolist() == [1, 2, 3]
    assert merged.fingerprint == "a"


def test_no_parts_make_an_empty_summary_and_empty_parts_vanish() -> None:
    assert merge("image", []).bins.rows == 0
    assert merge("image", [Summary("image"), part([1])]).fingerprint == "a"


def test_merging_is_associative() -> None:
    a, b, c = part([1]), part([2, 3]), part([4])
    left = merge("image", [merge("image", [a, b]), c])
    right = merge("image", [a, merge("image", [b, c])])
    assert left.counts == right.counts
    assert np.array_equal(left.bins.columns["quality"], right.bins.columns["quality"])


def test_slots_are_put_in_order_and_partitions_of_one_slot_interleaved() -> None:
    later = START + timedelta(seconds=5)
    found = assemble("image", [(later, part([9])), (START, part([1, 2, 3])), (START, part([11, 12, 13]))])
    assert found.bins.columns["quality"][:, 0].tolist() == [1, 11, 2, 12, 3, 13, 9]
    assert found.counts == {"present": 7}


def test_different_encoders_and_modalities_are_refused() -> None:
    with pytest.raises(IncomparableError, match="different encoders"):
        merge("image", [part([1], "a"), part([1], "b")])
    with pytest.raises(IncomparableError, match="text"):
        merge("image", [part([1], modality="text")])


def test_windows_need_a_time_zone_and_a_length() -> None:
    assert Window(START, START + timedelta(seconds=30)).length == timedelta(seconds=30)
    with pytest.raises(ValueError, match="time zone"):
        Window(START.replace(tzinfo=None), START)
    with pytest.raises(ValueError, match="must end after"):
        Window(START, START)


def test_labelled_rows_are_checked() -> None:
    rows = Labelled(np.array([0.5, 1.0]), np.array([True, False]))
    with pytest.raises(ValueError, match="NaN"):
        replace(rows, confidence=np.array([0.5, np.nan]))
    with pytest.raises(ValueError, match="disagree"):
        replace(rows, correct=np.array([True]))

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batching import MicroBatcher


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_due_by_size() -> None:
    batch = MicroBatcher[int](2, 10.0, Clock())
    batch.add(1)
    assert not batch.due
    batch.add(2)
    assert batch.due
    assert batch.take() == [1, 2]
    assert not batch.due


def test_due_by_the_age_of_the_oldest() -> None:
    clock = Clock()
    batch = MicroBatcher[int](10, 1.0, clock)
    clock.now = 5.0
    batch.add(1)
    clock.now = 5.75
    batch.add(2)
    assert batch.remaining == 0.25
    assert not batch.due
    clock.now = 6.0
    assert batch.due


def test_a_full_batch_takes_no_more() -> None:
    batch = MicroBatcher[int](1, 1.0, Clock())
    batch.add(1)
    with pytest.raises(OverflowError):
        batch.add(2)


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="max_items"):
        MicroBatcher[int](0, 1.0, Clock())


@given(st.lists(st.integers(0, 5)), st.integers(1, 7))
def test_nothing_is_lost_or_reordered_and_size_is_bounded(waits: list[int], size: int) -> None:
    clock = Clock()
    batch = MicroBatcher[int](size, 2.0, clock)
    out: list[int] = []
    for item, wait in enumerate(waits):
        batch.add(item)
        clock.now += wait
        assert len(batch) <= size
        if batch.due:
            out.extend(batch.take())
    assert out + batch.take() == list(range(len(waits)))

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


def test_the_first_may_be_older_than_the_batch() -> None:
    clock = Clock()
    batch = MicroBatcher[int](10, 1.0, clock)
    clock.now = 5.0
    batch.add(1, since=4.25)
    batch.add(2, since=3.0)
    assert batch.remaining == 0.25
    assert batch.take() == [1, 2]
    batch.add(3, since=3.75)
    assert batch.due


def test_a_full_batch_takes_no_more() -> None:
    batch = MicroBatcher[int](1, 1.0, Clock())
    batch.add(1)
    with pytest.raises(OverflowError):
        batch.add(2)


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="max_weight"):
        MicroBatcher[int](0, 1.0, Clock())


def test_padding_counts_every_item_as_long_as_the_longest() -> None:
    batch = MicroBatcher[str](100, 1.0, Clock(), max_padded=40)
    batch.add("a", 10)
    batch.add("b", 4)
    assert batch.fits(13)
    assert not batch.fits(14)
    batch.add("c", 10)
    assert not batch.full
    batch.add("d", 1)
    assert batch.full
    assert batch.due
    with pytest.raises(OverflowError):
        batch.add("e", 1)


def test_what_is_longer_than_any_batch_gets_its_own() -> None:
    batch = MicroBatcher[str](100, 1.0, Clock(), max_padded=40)
    batch.add("a", 1000)
    assert batch.due
    assert batch.take() == ["a"]
    heavy = MicroBatcher[str](10, 1.0, Clock())
    heavy.add("a", weight=50)
    assert heavy.due


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12), st.integers(1, 3))), st.integers(1, 7))
def test_nothing_is_lost_or_reordered_and_batches_are_bounded(items: list[tuple[int, int, int]], most: int) -> None:
    clock = Clock()
    batch = MicroBatcher[tuple[int, int, int]](most, 2.0, clock, max_padded=20)
    taken: list[list[tuple[int, int, int]]] = []
    for index, (wait, length, weight) in enumerate(items):
        if not batch.fits(length, weight=weight):
            taken.append(batch.take())
        batch.add((index, length, weight), length, weight=weight)
        clock.now += wait
        if batch.due:
            taken.append(batch.take())
    taken.append(batch.take())
    assert [index for group in taken for index, _, _ in group] == list(range(len(items)))
    for group in taken:
        if len(group) > 1:
            assert sum(weight for _, _, weight in group) <= most
            assert len(group) * max(length for _, length, _ in group) <= 20

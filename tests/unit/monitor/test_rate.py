"""Token buckets: never more than the burst and the rate allow, and whoever waits as told is let in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.rate import Buckets

STEPS = st.lists(st.integers(0, 40).map(lambda n: n / 8), max_size=60)


@given(st.integers(1, 5), st.sampled_from([0.25, 1.0, 4.0]), STEPS)
def test_no_span_of_time_lets_in_more_than_burst_and_rate(burst: int, rate: float, steps: list[float]) -> None:
    buckets, now, admitted = Buckets(rate, burst), 0.0, []
    for step in steps:
        now += step
        if buckets.take("a", now) == 0:
            admitted.append(now)
    for first, start in enumerate(admitted):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= burst + (admitted[last] - start) * rate


@given(st.integers(1, 5), st.sampled_from([0.25, 1.0, 4.0]))
def test_who_waits_as_told_is_let_in_and_others_are_not_held_up(burst: int, rate: float) -> None:
    buckets = Buckets(rate, burst)
    assert [buckets.take("a", 0.0) for _ in range(burst)] == [0.0] * burst
    wait = buckets.take("a", 0.0)
    assert wait == 1 / rate
    assert buckets.take("b", 0.0) == 0
    assert buckets.take("a", wait / 2) > 0
    assert buckets.take("a", wait) == 0


def test_who_did_not_ask_for_longest_is_forgotten_first() -> None:
    buckets = Buckets(0.001, 1, most=2)
    assert [buckets.take(key, 0.0) for key in "aba"] == [0.0, 0.0, 1000.0]
    assert buckets.take("c", 0.0) == 0
    assert buckets.take("a", 0.0) == 1000
    assert buckets.take("b", 0.0) == 0

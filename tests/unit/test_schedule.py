"""Which windows are due: each once, in order, bounded, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.schedule import due_ends, floor

T0 = datetime(2026, 3, 1, tzinfo=UTC)
moments = st.integers(0, 100_000).map(lambda s: T0 + timedelta(seconds=s))
hops = st.sampled_from([1, 10, 60, 300]).map(lambda s: timedelta(seconds=s))


@given(moments, moments, hops, st.integers(1, 20))
def test_ends_are_hops_after_the_last_up_to_now_and_bounded(
    last: datetime, until: datetime, hop: timedelta, limit: int
) -> None:
    ends = due_ends(floor(last, hop), until, hop, limit)
    assert len(ends) <= limit
    assert ends == sorted(set(ends))
    assert all(floor(last, hop) < end <= until and end == floor(end, hop) for end in ends)
    if floor(until, hop) > floor(last, hop):
        assert ends[-1] == floor(until, hop)


@given(moments, st.lists(st.integers(0, 500), max_size=30), hops)
def test_nothing_is_skipped_and_nothing_done_twice_while_the_monitor_keeps_up(
    start: datetime, steps: list[int], hop: timedelta
) -> None:
    last, now, done = floor(start, hop), start, []
    for seconds in steps:
        now += timedelta(seconds=seconds)
        ends = due_ends(last, now, hop, 1000)
        done += ends
        last = ends[-1] if ends else last
    assert done == [floor(start, hop) + (i + 1) * hop for i in range(len(done))]


def test_the_first_time_only_the_newest_window_is_judged() -> None:
    hop = timedelta(minutes=5)
    assert due_ends(None, T0 + timedelta(minutes=7), hop, 12) == [T0 + hop]


def test_hops_do_not_depend_on_the_time_zone() -> None:
    summer = timezone(timedelta(hours=2))
    moment = datetime(2026, 3, 29, 3, 7, tzinfo=summer)
    assert floor(moment, timedelta(hours=1)) == datetime(2026, 3, 29, 1, tzinfo=UTC)

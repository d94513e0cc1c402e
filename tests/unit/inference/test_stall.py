"""A stall is a position that stands still beside unread messages for long enough, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from inference.record import Partition
from inference.stall import StallGuard

P, Q = Partition("requests", 0), Partition("requests", 1)
SECONDS = 60


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def guarded() -> tuple[StallGuard, Clock]:
    clock = Clock()
    return StallGuard(SECONDS, clock), clock


def test_a_position_that_stands_still_beside_unread_messages_is_named_once_in_so_many_seconds() -> None:
    guard, clock = guarded()
    named = []
    for second in range(0, 200):
        clock.now = 1000.0 + second
        named += [second for _ in guard.observe({P: 5}, {P: second + 1})]
    assert named == [60, 120, 180]


def test_a_lag_that_does_not_grow_is_a_stall_too() -> None:
    guard, clock = guarded()
    assert guard.observe({P: 5}, {P: 3}) == []
    clock.now += SECONDS
    assert guard.observe({P: 5}, {P: 3}) == [P]


def test_a_log_that_ends_before_the_position_is_a_stall() -> None:
    guard, clock = guarded()
    guard.observe({P: 100}, {P: -97})
    clock.now += SECONDS
    assert guard.observe({P: 100}, {P: -90}) == [P]


def test_each_partition_is_judged_by_itself() -> None:
    guard, clock = guarded()
    for offset in range(3):
        guard.observe({P: 5, Q: offset}, {P: 1, Q: 10})
        clock.now += SECONDS / 2
    assert guard.observe({P: 5, Q: 4}, {P: 1, Q: 10}) == []  # named a moment ago
    guard.reset()
    guard.observe({P: 5, Q: 4}, {P: 1, Q: 10})
    clock.now += SECONDS
    assert guard.observe({P: 5, Q: 4}, {P: 1, Q: 10}) == [P, Q]


def test_time_counts_from_when_there_was_something_to_read() -> None:
    guard, clock = guarded()
    for lag in ({P: 0}, {}):
        guard.observe({P: 5}, lag)
        clock.now += 10 * SECONDS
    assert guard.observe({P: 5}, {P: 1}) == []
    clock.now += SECONDS - 1
    assert guard.observe({P: 5}, {P: 1}) == []
    clock.now += 1
    assert guard.observe({P: 5}, {P: 1}) == [P]


def test_backpressure_is_no_stall_and_time_counts_anew_after_it() -> None:
    guard, clock = guarded()
    guard.observe({P: 5, Q: 1}, {P: 9, Q: 9})
    clock.now += SECONDS - 1
    assert guard.observe({P: 5, Q: 1}, {P: 9, Q: 9}, paused={P}) == []
    clock.now += 1
    assert guard.observe({P: 5, Q: 1}, {P: 9, Q: 9}) == [Q]
    clock.now += SECONDS - 1
    assert guard.observe({P: 5}, {P: 9}) == []
    clock.now += 1
    assert guard.observe({P: 5}, {P: 9}) == [P]


def test_a_rebalance_starts_anew_and_what_was_taken_away_is_forgotten() -> None:
    guard, clock = guarded()
    guard.observe({P: 5, Q: 1}, {P: 9, Q: 9})
    clock.now += SECONDS - 1
    assert guard.observe({P: 5}, {P: 9}) == []
    guard.reset()
    clock.now += 1
    assert guard.observe({P: 5, Q: 1}, {P: 9, Q: 9}) == []


steps = st.lists(
    st.tuples(
        st.floats(0.1, SECONDS / 2),  # seconds since the last look
        st.integers(0, 3),  # messages read since
        st.integers(-5, 20),  # lag
        st.booleans(),  # paused
    ),
    max_size=60,
)


@given(steps)
def test_it_names_what_a_plain_reading_of_the_history_names(looks: list[tuple[float, int, int, bool]]) -> None:
    """Named where, looking back without a break over `seconds`, nothing was read, all was unread, nothing was told."""
    guard, clock = guarded()
    history: list[tuple[float, bool]] = []  # each look: when, and whether it continues a still stretch
    position = 0
    for seconds, read, lag, paused in looks:
        clock.now += seconds
        position += read
        watched = lag != 0 and not paused
        named = guard.observe({P: position}, {P: lag}, paused={P} if paused else ())
        if not watched:
            history = []
            assert named == []
            continue
        if read:
            history = []
        history.append((clock.now, bool(named)))
        since = next((at for at, told in reversed(history[:-1]) if told), history[0][0])
        assert named == ([P] if clock.now - since >= SECONDS else [])


@given(steps)
def test_a_consumer_that_reads_at_each_look_is_never_named(looks: list[tuple[float, int, int, bool]]) -> None:
    guard, clock = guarded()
    for number, (seconds, _, lag, _) in enumerate(looks):
        clock.now += 10 * seconds
        assert guard.observe({P: number}, {P: lag}) == []

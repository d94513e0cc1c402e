from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.inflight import InFlight


def test_room_ends_with_the_requests_or_with_the_bytes() -> None:
    inflight = InFlight(10, 1000)
    assert inflight.room == 10
    inflight.add(4, 100)
    assert inflight.room == 6
    inflight.add(0, 900)
    assert inflight.room == 0
    inflight.release(1, 500)
    assert (inflight.room, inflight.requests, inflight.bytes) == (7, 3, 500)
    with pytest.raises(ValueError, match="max_requests"):
        InFlight(0, 1)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5000))))
def test_what_is_added_and_released_leaves_nothing(parcels: list[tuple[int, int]]) -> None:
    inflight = InFlight(100, 10_000)
    for requests, size in parcels:
        inflight.add(requests, size)
    assert inflight.requests == sum(requests for requests, _ in parcels)
    for requests, size in reversed(parcels):
        inflight.release(requests, size)
    assert (inflight.requests, inflight.bytes, inflight.room) == (0, 0, 100)


def test_a_release_wakes_who_waits_for_room() -> None:
    inflight = InFlight(1, 10)
    inflight.add(1, 1)
    assert not inflight.wait_for_room(0.01)
    assert not inflight.wait_until_empty(0.01)
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(inflight.wait_for_room(30)))
    thread.start()
    inflight.release(1, 1)
    thread.join(timeout=10)
    assert found == [True]
    assert inflight.wait_until_empty(0)

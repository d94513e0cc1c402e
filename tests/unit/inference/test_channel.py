from __future__ import annotations

import threading

import pytest

from inference.stages.channel import Channel, EndedError


def test_items_come_out_in_order_and_then_the_end() -> None:
    channel: Channel[int] = Channel(3)
    for item in (1, 2, 3):
        channel.put(item)
    channel.end()
    assert [channel.get(), channel.get(), channel.get()] == [1, 2, 3]
    with pytest.raises(EndedError):
        channel.get()
    with pytest.raises(EndedError):
        channel.put(4)


def test_nothing_within_the_time_is_none() -> None:
    assert Channel[int](1).get(0.01) is None


def test_a_full_channel_holds_its_producer_until_there_is_room() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    thread = threading.Thread(target=channel.put, args=(2,))
    thread.start()
    assert len(channel) == 1
    assert channel.get() == 1
    assert channel.get() == 2
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_abandoning_frees_both_sides() -> None:
    full: Channel[int] = Channel(1)
    full.put(1)
    empty: Channel[int] = Channel(1)
    ended: list[str] = []

    def wait(name: str, action: object) -> None:
        assert callable(action)
        try:
            action()
        except EndedError:
            ended.append(name)

    threads = [
        threading.Thread(target=wait, args=("put", lambda: full.put(2))),
        threading.Thread(target=wait, args=("get", empty.get)),
    ]
    for thread in threads:
        thread.start()
    full.abandon()
    empty.abandon()
    for thread in threads:
        thread.join(timeout=5)
    assert sorted(ended) == ["get", "put"]
    with pytest.raises(EndedError):
        full.get()

"""Objects over a socket: whole, in order, in the memory they were given."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from inference import frames


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@given(
    st.lists(hnp.arrays(st.sampled_from(["u1", "i8", "f4", "?"]), hnp.array_shapes(min_dims=0, min_side=0)), max_size=4)
)
def test_arrays_arrive_as_they_were(arrays: list[NDArray[np.generic]]) -> None:
    left, right = socket.socketpair()
    with left, right:
        frames.send(left, {"arrays": arrays, "n": len(arrays)})
        got = frames.receive(right)
    assert got["n"] == len(arrays)
    for ours, theirs in zip(arrays, got["arrays"], strict=True):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
        assert theirs.flags.writeable


def test_more_than_the_stream_holds_goes_through_beside_a_reader(pair: tuple[socket.socket, socket.socket]) -> None:
    big = np.arange(5_000_000, dtype=np.int64)

    def send_all() -> None:
        for i in range(3):
            frames.send(pair[0], big[i:])

    sender = threading.Thread(target=send_all)
    sender.start()
    for i in range(3):
        assert np.array_equal(frames.receive(pair[1]), big[i:])
    sender.join()


def test_arrays_live_in_the_memory_that_was_given(pair: tuple[socket.socket, socket.socket]) -> None:
    given_out: list[NDArray[np.uint8]] = []

    def allocate(size: int) -> NDArray[np.uint8]:
        given_out.append(np.zeros(size, np.uint8))
        return given_out[-1]

    frames.send(pair[0], np.arange(1000, dtype=np.int32))
    array = frames.receive(pair[1], allocate)
    assert [memory.nbytes for memory in given_out] == [4000]
    assert np.shares_memory(array, given_out[0])


def test_a_closed_stream_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(b"\1\0")  # the first half of a count
    pair[0].close()
    with pytest.raises(EOFError):
        frames.receive(pair[1])
    with pytest.raises(OSError, match="Broken pipe"):
        frames.send(pair[1], 1)

"""Python objects over a stream socket: pickle protocol 5, array data beside the pickle, so that none is copied twice.

A frame is the number of parts (uint32), the size of each (uint64), then the parts: the pickle, and its buffers in
order. Little-endian. Both ends must be the same program: a pickle runs code.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS_AT_ONCE = 1024  # Linux's IOV_MAX
Allocate = Callable[[int], NDArray[np.uint8]]


def send(stream: socket.socket, value: Any) -> None:
    """Send one object. Raises OSError where the other end is gone."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(body), *(buffer.raw() for buffer in buffers)]
    header = struct.pack(f"<I{len(parts)}Q", len(parts), *(part.nbytes for part in parts))
    _every(stream.sendmsg, [memoryview(header), *parts])


def receive(stream: socket.socket, allocate: Allocate = lambda size: np.empty(size, np.uint8)) -> Any:
    """The next object; `allocate` gives the memory (bytes,) that its arrays live in.

    Raises EOFError where the other end closed, OSError where the stream broke.
    """
    (count,) = struct.unpack("<I", _receive(stream, bytearray(4))[0])
    sizes = struct.unpack(f"<{count}Q", _receive(stream, bytearray(8 * count))[0])
    body, *buffers = _receive(stream, bytearray(sizes[0]), *map(allocate, sizes[1:]))
    return pickle.loads(body, buffers=buffers)


def _receive(stream: socket.socket, *into: Any) -> list[memoryview]:
    parts = [memoryview(part) for part in into]
    _every(lambda rest: stream.recvmsg_into(rest, 0, socket.MSG_WAITALL)[0], parts)
    return parts


def _every(transfer: Callable[[list[memoryview]], int], parts: Sequence[memoryview]) -> None:
    """Transfer all parts, most often by one call: each one lets go of the interpreter's lock, and waits to have it."""
    rest = [part for part in parts if part.nbytes]
    while rest:
        done = transfer(rest[:PARTS_AT_ONCE])
        if done == 0:
            raise EOFError("the other end closed the stream")
        while rest and done >= rest[0].nbytes:
            done -= rest.pop(0).nbytes
        if done:
            rest[0] = rest[0][done:]

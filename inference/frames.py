"""Python objects over a stream socket: pickle protocol 5, array data beside the pickle, so that none is copied twice.

A frame is the number of parts (uint32), the size of each (uint64), then the parts: the pickle, and its buffers in
order. Little-endian. Both ends must be the same program: a pickle runs code.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Allocate = Callable[[int], NDArray[np.uint8]]


def send(stream: socket.socket, value: Any) -> None:
    """Send one object. Raises OSError where the other end is gone."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(body), *(buffer.raw() for buffer in buffers)]
    sizes = [part.nbytes for part in parts]
    stream.sendall(struct.pack(f"<I{len(parts)}Q", len(parts), *sizes) + body)
    for part in parts[1:]:
        stream.sendall(part)


def receive(stream: socket.socket, allocate: Allocate = lambda size: np.empty(size, np.uint8)) -> Any:
    """The next object; `allocate` gives the memory (bytes,) that its arrays live in.

    Raises EOFError where the other end closed, OSError where the stream broke.
    """
    (count,) = struct.unpack("<I", _exactly(stream, memoryview(bytearray(4))))
    sizes = struct.unpack(f"<{count}Q", _exactly(stream, memoryview(bytearray(8 * count))))
    body = _exactly(stream, memoryview(bytearray(sizes[0])))
    buffers = [_exactly(stream, allocate(size).data) for size in sizes[1:]]
    return pickle.loads(body, buffers=buffers)


def _exactly(stream: socket.socket, into: memoryview) -> memoryview:
    done = 0
    while done < into.nbytes:
        got = stream.recv_into(into[done:], 0, socket.MSG_WAITALL)
        if got == 0:
            raise EOFError("the other end closed the stream")
        done += got
    return into

"""Requests that wait for their answer, by id: as many as are allowed, each told once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class BusyError(Exception):
    """As many requests wait as are allowed."""


class TwiceError(Exception):
    """A request of this id waits already."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request: an answer's bytes, or why it was refused."""

    answer: bytes | None
    code: str = ""
    detail: str = ""


class Waiting:
    """Belongs to one event loop; `tell` alone may be called by another thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._futures: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Future[Reply]]] = {}

    def __len__(self) -> int:
        return len(self._futures)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._futures

    @contextmanager
    def opened(self, request_id: str) -> Iterator[asyncio.Future[Reply]]:
        """A place for one request until it is left. Raises BusyError, TwiceError."""
        if request_id in self._futures:
            raise TwiceError(request_id)
        if len(self._futures) >= self._most:
            raise BusyError
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._futures[request_id] = loop, future
        try:
            yield future
        finally:
            del self._futures[request_id]

    def tell(self, request_id: str, reply: Reply) -> None:
        """Hand a reply to whoever waits for it; what nobody waits for, or was told already, is nothing."""
        held = self._futures.get(request_id)
        if held is not None:
            loop, future = held
            loop.call_soon_threadsafe(_tell, future, reply)


def _tell(future: asyncio.Future[Reply], reply: Reply) -> None:
    if not future.done():
        future.set_result(reply)

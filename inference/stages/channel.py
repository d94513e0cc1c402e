"""A bounded queue between two stages that knows its end."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class EndedError(Exception):
    """Nothing more will come through the channel, or nobody takes from it any more."""


class Channel(Generic[Item]):
    """Hands items from one thread to another, in order; at most `size` wait in it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[Item] = deque()
        self._ended = False
        self._abandoned = False
        self._nudged = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Wait for room and add an item. Raises EndedError where the channel was ended or abandoned."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._size or self._abandoned)
            if self._abandoned or self._ended:
                raise EndedError
            self._items.append(item)
            self._changed.notify_all()

    def get(self, seconds: float | None = None) -> Item | None:
        """The next item; None where none came in time or before a nudge. Raises EndedError once the last was taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended or self._abandoned or self._nudged, seconds)
            self._nudged = False
            if self._abandoned or (self._ended and not self._items):
                raise EndedError
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def nudge(self) -> None:
        """Let who waits for an item, or comes for one next, look at something else first."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def end(self) -> None:
        """Say that no more items come: what is in the channel can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Free both sides at once: what is in the channel is lost."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

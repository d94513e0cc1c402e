"""Micro-batching by size and age. Pure: it keeps items and reads the clock it was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class MicroBatcher(Generic[Item]):
    """Holds at most `max_items`; a batch is due when it is full or its oldest item has waited `max_age` seconds."""

    def __init__(self, max_items: int, max_age: float, clock: Callable[[], float]) -> None:
        """`clock` must be monotonic, in seconds."""
        if max_items < 1 or max_age < 0:
            raise ValueError(f"needs max_items ≥ 1 and max_age ≥ 0, got {max_items} and {max_age}")
        self._max_items = max_items
        self._max_age = max_age
        self._clock = clock
        self._items: list[Item] = []
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def room(self) -> int:
        """How many more items fit."""
        return self._max_items - len(self._items)

    @property
    def due(self) -> bool:
        """Whether `take` should be called now."""
        return bool(self._items) and (self.room == 0 or self.remaining == 0.0)

    @property
    def remaining(self) -> float:
        """Seconds until the batch is due by age; `max_age` while empty."""
        if not self._items:
            return self._max_age
        return max(0.0, self._since + self._max_age - self._clock())

    def add(self, item: Item) -> None:
        """Add one item. Raises OverflowError where there is no room: the caller must take first."""
        if self.room == 0:
            raise OverflowError("the batch is full")
        if not self._items:
            self._since = self._clock()
        self._items.append(item)

    def take(self) -> list[Item]:
        """All items in the order they came, leaving none."""
        items, self._items = self._items, []
        return items

    def keep(self, wanted: Callable[[Item], bool]) -> None:
        """Drop the items for which `wanted` is false."""
        self._items = [item for item in self._items if wanted(item)]

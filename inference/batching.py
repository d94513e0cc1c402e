"""Micro-batching by number, age and padded length. Pure: it keeps items and reads the clock it was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class MicroBatcher(Generic[Item]):
    """Holds items up to a total weight; a batch is due when it is full or its first item is `max_age` seconds old.

    With `max_padded`, the number of items times the longest stays within it: a batch of sequences costs what its
    longest one costs. An item too heavy or too long for any batch gets one of its own.
    """

    def __init__(
        self, max_weight: int, max_age: float, clock: Callable[[], float], max_padded: int | None = None
    ) -> None:
        """`clock` must be monotonic, in seconds."""
        if max_weight < 1 or max_age < 0 or (max_padded is not None and max_padded < 1):
            raise ValueError(
                f"needs max_weight ≥ 1, max_age ≥ 0 and max_padded ≥ 1, got {max_weight}, {max_age} and {max_padded}"
            )
        self._max_weight = max_weight
        self._max_age = max_age
        self._max_padded = max_padded
        self._clock = clock
        self._items: list[Item] = []
        self._weight = 0
        self._longest = 0
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether not even the lightest item fits."""
        return self._weight >= self._max_weight or not self._padded_fits(0)

    @property
    def due(self) -> bool:
        """Whether `take` should be called now."""
        return bool(self._items) and (self.full or self.remaining == 0.0)

    @property
    def remaining(self) -> float:
        """Seconds until the batch is due by age; `max_age` while empty."""
        if not self._items:
            return self._max_age
        return max(0.0, self._since + self._max_age - self._clock())

    def fits(self, length: int = 0, *, weight: int = 1) -> bool:
        """Whether an item can still be added; always, while the batch is empty."""
        return not self._items or (self._weight + weight <= self._max_weight and self._padded_fits(length))

    def _padded_fits(self, length: int) -> bool:
        return self._max_padded is None or (len(self._items) + 1) * max(self._longest, length) <= self._max_padded

    def add(self, item: Item, length: int = 0, *, weight: int = 1, since: float | None = None) -> None:
        """Add one item that is as old as from the clock's `since` on; by default it is new.

        Raises OverflowError where it does not fit: the caller must take first.
        """
        if not self.fits(length, weight=weight):
            raise OverflowError("the batch is full")
        if not self._items:
            self._since = self._clock() if since is None else since
        self._items.append(item)
        self._weight += weight
        self._longest = max(self._longest, length)

    def take(self) -> list[Item]:
        """All items in the order they came, leaving none."""
        items, self._items = self._items, []
        self._weight = self._longest = 0
        return items

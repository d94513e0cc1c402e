"""Which windows are to be judged next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def floor(moment: datetime, hop: timedelta) -> datetime:
    """The last multiple of `hop` since 1970 that is not after the moment, in UTC: the same on every monitor."""
    return _EPOCH + (moment - _EPOCH) // hop * hop


def due_ends(last: datetime | None, until: datetime, hop: timedelta, limit: int) -> list[datetime]:
    """Window ends after `last` up to `until`, oldest first, at most the newest `limit`; the newest one without `last`.

    Empty where `until` is not past the next end, as after a clock was set back.
    """
    newest = floor(until, hop)
    first = newest if last is None else floor(last, hop) + hop
    first = max(first, newest - (limit - 1) * hop)
    count = (newest - first) // hop + 1
    return [first + index * hop for index in range(count)]

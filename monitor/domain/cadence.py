"""Which periods are reported on: whole days and whole weeks in UTC, once they are over for a while."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from enum import StrEnum

from monitor.domain.window import Window


class Cadence(StrEnum):
    """How often there is a report; `asked` ones are of whatever period a person wants."""

    DAILY = "daily"
    WEEKLY = "weekly"
    ASKED = "asked"


SCHEDULED = (Cadence.DAILY, Cadence.WEEKLY)
LENGTH = {Cadence.DAILY: timedelta(days=1), Cadence.WEEKLY: timedelta(days=7)}
# After an absence: a day of last week may still be read, two weeks of the past are told by what is kept of them.
CATCH_UP = {Cadence.DAILY: 7, Cadence.WEEKLY: 1}


def due(cadence: Cadence, now: datetime, delay: timedelta) -> list[Window]:
    """The newest periods that ended at least `delay` before `now`, the oldest first; CATCH_UP of them.

    A day lasts from midnight to midnight, a week from Monday to Monday (ISO 8601), both in UTC.
    """
    length = LENGTH[cadence]
    until = (now - delay).astimezone(UTC)
    end = datetime.combine(until.date(), time(), UTC)
    if cadence is Cadence.WEEKLY:
        end -= timedelta(days=end.weekday())
    count = CATCH_UP[cadence]
    return [Window(end - (back + 1) * length, end - back * length) for back in reversed(range(count))]

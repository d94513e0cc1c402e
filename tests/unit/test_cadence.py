"""Which periods are due: whole days and ISO weeks in UTC, once they are over for long enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.cadence import CATCH_UP, LENGTH, SCHEDULED, Cadence, due

HOUR = timedelta(hours=1)
START = datetime(2020, 1, 1, tzinfo=UTC)
TIMES = st.timedeltas(timedelta(0), timedelta(days=3650)).map(lambda later: START + later)


def test_a_day_is_due_once_it_is_over_for_the_delay() -> None:
    before = due(Cadence.DAILY, datetime(2026, 3, 3, 0, 59, tzinfo=UTC), HOUR)
    after = due(Cadence.DAILY, datetime(2026, 3, 3, 1, 0, tzinfo=UTC), HOUR)
    assert before[-1].end == datetime(2026, 3, 2, tzinfo=UTC)
    assert after[-1].end == datetime(2026, 3, 3, tzinfo=UTC)


def test_a_week_goes_from_monday_to_monday_in_utc() -> None:
    sunday_there = datetime(2026, 3, 8, 22, tzinfo=timezone(timedelta(hours=-6)))  # Monday, 4 o'clock in UTC
    (week,) = due(Cadence.WEEKLY, sunday_there, HOUR)
    assert (week.start, week.end) == (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 9, tzinfo=UTC))


@given(now=TIMES, delay=st.timedeltas(timedelta(0), timedelta(days=1)), cadence=st.sampled_from(SCHEDULED))
def test_periods_follow_one_another_up_to_the_newest_that_is_over(
    now: datetime, delay: timedelta, cadence: Cadence
) -> None:
    found = due(cadence, now, delay)
    assert len(found) == CATCH_UP[cadence]
    assert all(earlier.end == later.start for earlier, later in pairwise(found))
    assert all(each.length == LENGTH[cadence] for each in found)
    assert found[-1].end + delay <= now < found[-1].end + LENGTH[cadence] + delay

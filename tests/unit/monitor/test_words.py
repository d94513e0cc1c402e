"""Numbers as people read them: rounding never turns a fault into health."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitor.storage.views.models.base import Period
from monitor.storage.views.models.traffic import TrafficPoint, TrafficSeries
from monitor.web import plots, words
from monitor.web.page import first_range

NOW = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "—"), (0, "0%"), (1, "100%"), (0.99999, "99.9%"), (0.00001, "0.1%"), (0.4567, "45.7%")],
)
def test_a_share_is_whole_only_when_it_is(value: float | None, shown: str) -> None:
    assert words.share(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "—"), (0, "0"), (0.12345, "0.123"), (12.34, "12.3"), (0.0000123, "1.2e-05"), (1234.5, "1,234"), (-2, "-2")],
)
def test_numbers_keep_three_digits(value: float | None, shown: str) -> None:
    assert words.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0 s ago"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (7200, "2 h ago"),
        (200_000, "2 d ago"),
    ],
)
def test_ago(seconds: int, shown: str) -> None:
    assert words.ago(NOW - timedelta(seconds=seconds), NOW) == shown


def test_lists_and_names() -> None:
    assert [words.listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert words.modality("image+text") == "Image and text"
    assert words.detector("new_thing").name == "New thing"
    assert words.verdict("drift", "availability").word == "failing"
    assert words.verdict("drift", "messages_lost").word == "lost"
    assert words.verdict("ok", "messages_lost").word == "ok"
    assert words.verdict("drift", "pairing").word == "drift"
    assert words.vocabulary()["verdicts"]["drift:log_reset"]["word"] == "reset"
    assert len({sign.shape for sign in words.VERDICTS.values()}) == len(words.VERDICTS)


def test_presence_cells_show_gaps_and_leave_silence_empty() -> None:
    hour = Period(start=NOW - timedelta(minutes=60), end=NOW)
    counts = [{"present": 100}, {"present": 50, "missing": 50}, {}]
    points = [
        TrafficPoint(at=hour.start + timedelta(minutes=20 * i), routes={}, modalities={"image": by} if by else {})
        for i, by in enumerate(counts)
    ]
    traffic = TrafficSeries(bucket_seconds=60, points=points)
    whole, half = plots.presence_cells(traffic, "image", hour, target=0.99, width=300)
    assert (whole.x, whole.filled, whole.whole) == (0, plots.STRIP_HEIGHT, True)
    assert (half.x, half.filled, half.whole) == (100, plots.STRIP_HEIGHT / 2, False)


@pytest.mark.parametrize(("hop", "minutes"), [(5, 15), (30, 60), (300, 1440), (86_400, 10_080)])
def test_plots_show_a_hundred_and_twenty_windows_at_first_or_all_they_can(hop: int, minutes: int) -> None:
    assert first_range(hop) == minutes


def test_periods_are_named_by_whole_days_where_they_are_whole() -> None:
    monday = datetime(2026, 3, 2, tzinfo=UTC)
    assert words.span(monday, monday + timedelta(days=1)) == "Mon 2 Mar 2026"
    assert words.span(monday, monday + timedelta(days=7)) == "2 Mar – 8 Mar 2026"
    assert words.span(monday, monday + timedelta(hours=2.5)) == "2 Mar 00:00 – 2 Mar 02:30 2026"

"""When a person hears of what: the shipped times of the pipeline, second by second, rule by rule."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from monitor.channels.base import Outcome
from monitor.domain.schedule import due_ends
from monitor.domain.silence import Kind
from tests.support.monitored import Stage
from tests.support.on_call import BAD, DRIFT, GOOD, HOP, HOUR, MINUTE, OUTAGE, TICK, UNKNOWN, WINDOW, OnCall

WAIT, INTERVAL, REPEAT = 30, 5 * MINUTE, 4 * HOUR
PAGE, TICKET = "ModalityUnavailable", "EmbeddingDrift"


@pytest.fixture
def on_call(stage: Stage) -> OnCall:
    return OnCall(stage)


def fires(on_call: OnCall, modality: str = "image") -> None:
    """A ticket's two windows, the second of which ends now."""
    on_call.judge(DRIFT, BAD, modality)
    on_call.until(on_call.now + HOP, HOP)
    on_call.judge(DRIFT, BAD, modality)


def test_a_ticket_waits_for_its_second_window_and_is_over_after_two_clear_ones_in_a_row(on_call: OnCall) -> None:
    on_call.judge(DRIFT, BAD)
    on_call.until(HOP - 1, MINUTE)
    assert on_call.heard == []
    on_call.until(HOP)
    on_call.judge(DRIFT, BAD)
    on_call.until(HOP + WAIT + TICK)
    [(at, *told)] = on_call.heard
    assert told == [TICKET, "image", "firing"]
    assert HOP + WAIT <= at <= HOP + WAIT + TICK
    for verdict in (GOOD, BAD, GOOD, UNKNOWN):  # one clear window and one that says nothing do not end it
        on_call.until(on_call.now + HOP, HOP)
        on_call.judge(DRIFT, verdict)
    on_call.until(on_call.now + HOP - MINUTE, MINUTE)
    assert len(on_call.heard) == 1
    on_call.until(on_call.now + MINUTE, MINUTE)
    on_call.judge(DRIFT, GOOD)
    over = on_call.now
    on_call.until(over + WAIT + TICK)
    at, *told = on_call.heard[-1]
    assert told == [TICKET, "image", "resolved"]
    assert over + WAIT <= at <= over + WAIT + TICK
    assert len(on_call.heard) == 2


def test_one_bad_window_is_told_to_nobody(on_call: OnCall) -> None:
    for verdict in (BAD, GOOD, BAD, GOOD):
        on_call.judge(DRIFT, verdict)
        on_call.until(on_call.now + HOP, MINUTE)
    assert on_call.heard == []


def test_what_an_outage_explains_is_told_when_it_has_been_over_for_a_window_and_only_if_it_still_fires(
    on_call: OnCall,
) -> None:
    on_call.gone()
    for _ in range(3):
        on_call.until(on_call.now + HOP, MINUTE)
        on_call.gone()
        on_call.judge(DRIFT, BAD)
        on_call.judge("quality_shape", BAD)
    for _ in range(2):
        on_call.until(on_call.now + HOP, MINUTE)
        on_call.judge(OUTAGE, GOOD)
        on_call.judge(DRIFT, BAD)
        on_call.judge("quality_shape", GOOD)
    over = on_call.now
    on_call.until(over + WINDOW, 2 * MINUTE)
    assert on_call.told() == [(PAGE, "image", "firing"), (PAGE, "image", "resolved")]
    assert on_call.reasons("suppressed") >= {f"inhibited: {PAGE}(image)"}
    on_call.until(over + WINDOW + WAIT + 2 * TICK)
    at, *told = on_call.heard[-1]
    assert told == [TICKET, "image", "firing"]
    assert over + WINDOW < at <= over + WINDOW + WAIT + 2 * TICK
    assert len(on_call.heard) == 3


def test_a_silence_holds_from_its_start_to_its_end_and_then_tells_once(on_call: OnCall) -> None:
    start, end = 10 * MINUTE, 40 * MINUTE
    silence = on_call.silence(start, end, modality="image")
    on_call.until(start, MINUTE)
    on_call.gone()
    on_call.until(end - TICK, MINUTE)
    assert on_call.heard == []
    assert on_call.reasons("suppressed") == {f"silenced: silence {silence}"}
    on_call.until(end + WAIT + TICK)
    on_call.until(end + HOUR, 5 * MINUTE)
    [(at, *told)] = on_call.heard
    assert told == [PAGE, "image", "firing"]
    assert end + WAIT <= at <= end + WAIT + TICK
    assert on_call.reasons("sent") == {f"silence_ended: {silence}"}


def test_a_silence_that_has_not_begun_holds_nothing(on_call: OnCall) -> None:
    on_call.silence(10 * MINUTE, HOUR, modality="image")
    on_call.gone()
    on_call.until(WAIT + TICK)
    assert on_call.told() == [(PAGE, "image", "firing")]


def test_a_maintenance_window_holds_everything_and_what_ended_in_it_is_never_told(on_call: OnCall) -> None:
    window = on_call.silence(0, HOUR, Kind.MAINTENANCE)
    on_call.gone("image")
    on_call.gone("text")
    for _ in range(2):
        on_call.until(on_call.now + HOP, MINUTE)
        on_call.judge(OUTAGE, GOOD, "image")
    on_call.until(HOUR - TICK, 10 * MINUTE)
    assert on_call.heard == []
    on_call.until(HOUR + WAIT + TICK)
    assert on_call.told() == [(PAGE, "text", "firing")]
    assert f"silenced: maintenance {window}" in on_call.reasons("suppressed")


def flap(on_call: OnCall, times: int) -> None:
    """An outage of a window and two clear ones, so many times: six changes in fifteen minutes of three."""
    for _ in range(times):
        on_call.gone()
        on_call.until(on_call.now + MINUTE)
        for _ in range(2):
            on_call.judge(OUTAGE, GOOD)
            on_call.until(on_call.now + MINUTE, MINUTE)


def test_the_fourth_change_within_half_an_hour_becomes_one_ticket_until_it_settles(on_call: OnCall) -> None:
    flap(on_call, 2)
    on_call.until(on_call.now + WAIT + TICK)
    assert on_call.heard[0][1:] == (PAGE, "image", "firing")
    assert on_call.heard[0][0] <= WAIT + TICK, "the first page waits for nobody"
    assert ("AlertFlapping", "image", "firing") in [told[1:] for told in on_call.heard]
    quiet = len(on_call.heard)
    flap(on_call, 2)
    assert [told for told in on_call.heard[quiet:] if told[3] == "firing"] == []
    last = on_call.now
    on_call.until(last + 30 * MINUTE + 2 * WAIT, 2 * MINUTE)
    assert on_call.heard[-1][1:] == ("AlertFlapping", "image", "resolved")
    on_call.gone()
    on_call.until(on_call.now + INTERVAL)
    assert on_call.heard[-1][1:] == (PAGE, "image", "firing")


def test_what_flapped_while_nobody_was_to_hear_of_it_still_pages_first(on_call: OnCall) -> None:
    on_call.silence(0, 20 * MINUTE, alertname=PAGE)
    flap(on_call, 3)
    on_call.until(20 * MINUTE - MINUTE, MINUTE)
    on_call.gone()
    assert on_call.heard == []
    on_call.until(20 * MINUTE + WAIT + 2 * TICK)
    assert [told[1:] for told in on_call.heard] == [(PAGE, "image", "firing"), ("AlertFlapping", "image", "firing")]


def test_alerts_within_the_wait_are_one_message_the_next_comes_after_the_interval_and_repeats_after_four_hours(
    on_call: OnCall,
) -> None:
    on_call.gone("image")
    on_call.until(10)
    on_call.gone("text")
    on_call.until(WAIT + TICK)
    [message] = on_call.inbox.messages
    assert {message["modality"], *(each["modality"] for each in message["grouped"])} == {"image", "text"}
    first = on_call.heard[0][0]
    on_call.until(MINUTE)
    on_call.gone("audio")
    on_call.until(first + INTERVAL - TICK, MINUTE)
    assert len(on_call.heard) == 1
    on_call.until(first + INTERVAL + TICK)
    at, *told = on_call.heard[1]
    assert told == [PAGE, "audio", "firing"]
    assert first + INTERVAL <= at <= first + INTERVAL + TICK
    on_call.until(first + REPEAT - MINUTE, 30 * MINUTE)
    assert len(on_call.heard) == 2
    on_call.until(first + REPEAT + MINUTE, 10)
    assert len(on_call.heard) == 3
    assert on_call.inbox.messages[2]["grouped"], "what was told together is repeated together"
    assert len(set(on_call.inbox.keys)) == 3


def test_the_same_window_judged_again_changes_nothing(on_call: OnCall) -> None:
    fires(on_call)
    on_call.until(on_call.now + WAIT + TICK)
    on_call.clock.advance(-on_call.now + HOP - 1)  # set back before the window that fired it
    on_call.judge(DRIFT, GOOD)
    on_call.until(HOP + 2 * MINUTE, 30)
    assert on_call.told() == [(TICKET, "image", "firing")]


def test_a_clock_set_back_by_hours_delays_a_new_page_by_an_interval_at_the_most(on_call: OnCall) -> None:
    on_call.until(3 * HOUR, HOUR)
    on_call.gone("image")
    on_call.until(on_call.now + WAIT + TICK)
    on_call.clock.advance(-2 * HOUR)
    set_back = on_call.now
    on_call.gone("text")
    on_call.until(set_back + INTERVAL + TICK, 30)
    at, *told = on_call.heard[-1]
    assert told == [PAGE, "text", "firing"]
    assert set_back < at <= set_back + INTERVAL + TICK
    assert len(on_call.heard) == 2


def test_a_receiver_that_was_away_for_more_than_a_day_hears_of_what_still_fires(on_call: OnCall) -> None:
    on_call.inbox.outcome = Outcome.RETRY
    on_call.gone()
    on_call.until(25 * HOUR, HOUR)
    assert "gave up: as told" in on_call.reasons("failed")
    on_call.inbox.outcome = Outcome.SENT
    before = len(on_call.inbox.messages)
    back = on_call.now
    on_call.until(back + 10 * MINUTE, 30)
    assert len(on_call.inbox.messages) == before + 1, "told once it is back"
    assert on_call.inbox.keys[-1] != on_call.inbox.keys[0]


def test_a_page_that_was_refused_is_tried_again_after_four_hours_and_not_before(on_call: OnCall) -> None:
    on_call.inbox.outcome = Outcome.REFUSE
    on_call.gone()
    on_call.until(REPEAT - MINUTE, 20 * MINUTE)
    assert len(on_call.inbox.messages) == 1
    on_call.inbox.outcome = Outcome.SENT
    on_call.until(REPEAT + 5 * MINUTE, 30)
    assert len(on_call.inbox.messages) == 2
    assert on_call.reasons("sent") == {"tried_again"}


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on local time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize("change", [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)])
def test_a_change_of_daylight_saving_time_neither_repeats_nor_delays(stage: Stage, change: datetime) -> None:
    """Local time jumps by an hour in the middle of an outage and of a silence: both last as long as they last."""
    stage.clock.at = change - timedelta(minutes=30)
    on_call = OnCall(stage)
    begin, end = ((on_call.start + timedelta(minutes=m)).astimezone() for m in (10, 50))
    assert begin.utcoffset() != end.utcoffset()
    on_call.silences.add({"modality": "text"}, kind=Kind.SILENCE, start=begin, end=end, owner="ann", reason="new")
    on_call.gone("image")
    on_call.until(WAIT + TICK)
    assert on_call.told() == [(PAGE, "image", "firing")]
    on_call.until(15 * MINUTE, MINUTE)
    on_call.gone("text")
    on_call.until(50 * MINUTE - TICK, MINUTE)
    assert len(on_call.heard) == 1
    on_call.until(50 * MINUTE + INTERVAL + TICK, 10)
    assert on_call.heard[1][1:] == (PAGE, "text", "firing")
    assert 50 * MINUTE < on_call.heard[1][0] <= 50 * MINUTE + INTERVAL + TICK
    for _ in range(2):
        on_call.until(on_call.now + HOP, MINUTE)
        on_call.judge(OUTAGE, GOOD, "image")
    on_call.until(on_call.now + INTERVAL + WAIT, 10)
    assert on_call.told()[2:] == [(PAGE, "image", "resolved")]


@pytest.mark.usefixtures("in_berlin")
def test_windows_keep_their_distance_where_local_time_jumps() -> None:
    hop = timedelta(minutes=5)
    last = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).astimezone()
    ends = due_ends(last, (last + timedelta(hours=2)).astimezone(), hop, 100)
    assert len(ends) == 24
    assert {later - earlier for earlier, later in pairwise(ends)} == {hop}
    assert all(end.utcoffset() == timedelta(0) for end in ends)

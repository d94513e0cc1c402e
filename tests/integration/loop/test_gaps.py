"""Offset gaps as a worker records them, from the row to what people are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from inference import gaps as recording
from inference import offsets
from inference.gaps import Gap
from inference.offsets import Move, Position
from inference.record import Partition
from monitor import wiring
from monitor.storage import notifications
from monitor.tasks.detect import Detect
from monitor.tasks.notify import Notify, RetryPolicy
from monitor.telemetry import Metrics
from tests.support.monitored import HOP, NORMAL, SLOT, WINDOW, Inbox, Stage, settings

TOPIC = "fusion.requests"
TopicIds = tuple[UUID | None, UUID | None]


class OnCall:
    """The monitor of a model in service, and the person who is told."""

    def __init__(self, stage: Stage, database: str) -> None:
        self.stage = stage
        self.inbox = Inbox()
        self.detect: Detect = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)
        self._notify = Notify(stage.engine, {"log": self.inbox}, RetryPolicy(), Metrics(), stage.clock)
        stage.register("v1")

    def look(self) -> list[tuple[str, str]]:
        """Run the monitor; the names and states of what is told."""
        before = len(self.inbox.messages)
        self.detect.run()
        self._notify.run()
        return [(name, state) for name, _, state in self.inbox.told()[before:]]

    def play(self, seconds: int) -> list[tuple[str, str]]:
        """Normal traffic for so long, and all that is told meanwhile."""
        told = []
        for _ in range(seconds // SLOT):
            self.stage.slot(NORMAL)
            self.stage.clock.advance(SLOT)
            told += self.look()
        return told

    def gap(
        self, stored: int, resumed: int, partition: int = 0, topic: str = TOPIC, topic_ids: TopicIds = (None, None)
    ) -> None:
        """A worker that had read to `stored` goes on at `resumed`, of the second of the topics where ids tell them."""
        now, where = self.stage.clock.now(), Partition(topic, partition)
        with self.stage.engine.begin() as connection:
            known = offsets.read(connection, "fusionwatch", [where]).get(where, Position(0))
            if known != Position(stored, topic_ids[0]):
                expected = known.next or None
                moves = {where: Move(expected, stored, known.topic_id, topic_ids[0])}
                offsets.advance(connection, "fusionwatch", moves, now)
            recording.record(connection, "fusionwatch", [Gap(where, stored, resumed, *topic_ids)], now, "w1")

    def unseen(self) -> Any:
        return self.stage.scalar("SELECT count(*) FROM offset_gaps WHERE seen_at IS NULL")


@pytest.fixture
def on_call(stage: Stage, database: str) -> OnCall:
    return OnCall(stage, database)


def test_lost_messages_page_at_the_next_look_and_resolve_a_window_later(on_call: OnCall) -> None:
    assert on_call.play(2 * HOP) == []
    on_call.gap(100, 512)
    assert on_call.look() == [("MessagesLost", "firing")]
    page = on_call.inbox.messages[-1]
    assert (page["severity"], page["modality"], page["value"]) == ("page", "all", 412)
    assert page["summary"] == (
        "Messages were lost. 412 messages left the log before being read: "
        "fusion.requests[0] from offset 100 to 511, group fusionwatch."
    )
    assert page["runbook"].endswith("dashboards/runbooks/messages-lost.md")
    assert on_call.play(WINDOW - SLOT) == []
    assert on_call.play(SLOT) == [("MessagesLost", "resolved")]
    assert on_call.play(2 * WINDOW) == []
    assert on_call.stage.verdicts("messages_lost", "all") == ["drift", "ok"]


def test_a_log_that_starts_again_is_a_ticket_and_no_page(on_call: OnCall) -> None:
    on_call.gap(100, 0)
    assert on_call.look() == [("LogReset", "firing")]
    ticket = on_call.inbox.messages[-1]
    assert (ticket["severity"], ticket["value"]) == ("ticket", 1)
    assert "fusion.requests[0] had been read to offset 100 and goes on at 0" in ticket["summary"]
    assert on_call.play(WINDOW + HOP) == [("LogReset", "resolved")]
    on_call.gap(7, 9, partition=1, topic_ids=(uuid4(), uuid4()))
    assert on_call.look() == [("LogReset", "firing")], "a topic of another id, however long it is"
    summary = on_call.inbox.messages[-1]["summary"]
    assert (
        "The topic was deleted and made anew: fusion.requests[1] had been read to offset 7 and goes on at 9" in summary
    )


def test_gaps_that_follow_are_one_alert_which_knows_all_of_them(on_call: OnCall) -> None:
    """Each worker records its own partitions, some seconds apart."""
    told = []
    for partition in range(4):
        on_call.gap(100, 110, partition)
        told += on_call.look()
        on_call.stage.clock.advance(1)
    assert told == [("MessagesLost", "firing")]
    (alert,) = on_call.stage.alerts()
    assert alert.annotations["value"] == 40
    assert on_call.play(WINDOW - SLOT) == [], "it stays for a window after the last gap"
    assert on_call.play(2 * SLOT) == [("MessagesLost", "resolved")]


def test_a_monitor_that_was_away_still_tells_of_it(on_call: OnCall) -> None:
    on_call.play(HOP)
    on_call.gap(100, 512)
    on_call.stage.clock.advance(10 * WINDOW)
    assert ("MessagesLost", "firing") in on_call.look()
    assert ("MessagesLost", "resolved") not in on_call.play(WINDOW - SLOT)
    assert ("MessagesLost", "resolved") in on_call.play(SLOT)


def test_another_gap_after_the_resolve_is_told_again(on_call: OnCall) -> None:
    told = []
    for resumed in (200, 300):
        on_call.gap(100, resumed)
        told += on_call.play(WINDOW + HOP)
    assert told == [("MessagesLost", "firing"), ("MessagesLost", "resolved")] * 2
    assert [row.annotations["value"] for row in on_call.stage.alerts()] == [100, 200]


def test_a_clock_set_back_delays_the_page_and_does_not_swallow_it(on_call: OnCall) -> None:
    on_call.gap(100, 200)
    on_call.look()
    on_call.play(WINDOW + HOP)
    on_call.stage.clock.advance(-WINDOW)
    on_call.gap(200, 300)
    assert on_call.look() == []
    assert on_call.unseen() == 1
    on_call.stage.clock.advance(WINDOW + SLOT)
    assert on_call.look() == [("MessagesLost", "firing")]


def test_a_crash_of_the_monitor_before_the_commit_leaves_the_gap_for_the_next_run(
    on_call: OnCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_call.gap(100, 512)
    whole = notifications.write

    def crash(connection: Any, entries: Any, now: Any) -> Any:
        written = whole(connection, entries, now)
        if entries:
            raise KeyboardInterrupt
        return written

    monkeypatch.setattr(notifications, "write", crash)
    with pytest.raises(KeyboardInterrupt):
        on_call.detect.run()
    assert (on_call.unseen(), on_call.stage.alerts()) == (1, [])
    monkeypatch.undo()
    assert on_call.look() == [("MessagesLost", "firing")]


def test_two_monitors_tell_once(on_call: OnCall, database: str) -> None:
    other = wiring.detect(settings(database), on_call.stage.engine, Metrics(), on_call.stage.clock)
    on_call.gap(100, 512)
    on_call.detect.run()
    on_call.stage.clock.advance(1)
    other.run()
    assert on_call.look() == [("MessagesLost", "firing")]
    assert len(on_call.stage.alerts()) == 1


def test_the_finding_keeps_each_gap(on_call: OnCall) -> None:
    on_call.gap(100, 512)
    on_call.gap(7, 9, topic="fusion.labels")
    on_call.look()
    with on_call.stage.engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM findings WHERE detector = 'messages_lost'")).one()
    assert (row.n_current, row.value, row.window_end - row.window_start) == (2, 414, timedelta(seconds=WINDOW))
    assert {(each["topic"], each["lost"], each["group"]) for each in row.details["gaps"]} == {
        ("fusion.requests", 412, "fusionwatch"),
        ("fusion.labels", 2, "fusionwatch"),
    }

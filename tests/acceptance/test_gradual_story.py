"""Quiet days and a slow change, told hour by hour: nobody hears of the former, and once of the latter."""

from __future__ import annotations

import pytest

from monitor import wiring
from monitor.domain.objectives import DEFAULTS
from monitor.tasks.maintenance import Maintenance
from monitor.tasks.notify import Notify, RetryPolicy
from monitor.telemetry import Metrics
from tests.support.monitored import GRACE, NORMAL, Inbox, Stage, Traffic, settings

HOUR, DAY = 3600, 24
CALIBRATION = 2 * DAY
ROWS = 400  # an hour


class Days:
    """A model in service for days, and a monitor that judges each hour; each day it is started anew."""

    def __init__(self, database: str, stage: Stage) -> None:
        self.stage = stage
        self.inbox = Inbox()
        self.settings = settings(
            database,
            slot_seconds=HOUR,
            slos=dict.fromkeys(DEFAULTS),  # windows of minutes hold no slot of an hour
            hop_seconds=HOUR,
            window_seconds=HOUR,
            silence_seconds=2 * HOUR,
            calibration_windows=CALIBRATION,
            false_tickets=0.5,
            repeat_seconds=7 * DAY * HOUR,  # what still fires is not told again within the story
            # fewer permutations cannot reach the fixed threshold: nothing but the sequential monitor can speak here
            detector_options={"embedding_mmd": {"permutations": 499}},
        )
        stage.clock.advance(GRACE)
        self.hours = 0
        self.heard: list[tuple[int, str, str, str]] = []

    def hour(self, traffic: Traffic) -> None:
        if self.hours % DAY == 0:
            self.detect = wiring.detect(self.settings, self.stage.engine, Metrics(), self.stage.clock)
            self.notify = Notify(self.stage.engine, {"log": self.inbox}, RetryPolicy(), Metrics(), self.stage.clock)
            Maintenance(self.stage.engine, Metrics(), self.stage.clock).run()
        self.stage.slot(traffic, rows=ROWS)
        self.stage.clock.advance(HOUR)
        self.hours += 1
        before = len(self.inbox.messages)
        self.detect.run()
        self.notify.run()
        self.heard += [(self.hours, *told) for told in self.inbox.told()[before:]]


@pytest.fixture
def days(database: str, stage: Stage) -> Days:
    return Days(database, stage)


def test_a_slow_change_of_text_is_one_ticket_after_quiet_days(days: Days) -> None:
    for _ in range(CALIBRATION - 1):
        days.hour(NORMAL)
    learning = "SELECT explanation FROM findings WHERE detector = 'sequential' ORDER BY window_end DESC LIMIT 1"
    assert f"of {CALIBRATION} windows of calibration are in; fixed thresholds serve" in days.stage.scalar(learning)
    for _ in range(4 * DAY + 1):
        days.hour(NORMAL)
    assert days.heard == []
    assert "metrics are followed for gradual change" in days.stage.scalar(learning)

    began = days.hours
    for hour in range(2 * DAY):  # up to about two of the statistic's standard deviations, over a day
        days.hour(Traffic(text_shift=0.05 * min(1.0, (hour + 1) / DAY)))
    (told,) = days.heard
    assert told[1:] == ("GradualDrift", "text", "firing")
    assert began < told[0] <= began + 2 * DAY
    ticket = days.inbox.messages[0]
    assert ticket["severity"] == "ticket"
    assert ticket["runbook"].endswith("gradual-drift.md")
    assert "Text embedding mmd has been worse by" in ticket["summary"]
    assert "drift" not in days.stage.verdicts("embedding_mmd", "text"), "no window shows it by itself"

    for _ in range(DAY):
        days.hour(NORMAL)
    assert [(name, state) for _, name, _, state in days.heard] == [
        ("GradualDrift", "firing"),
        ("GradualDrift", "resolved"),
    ]

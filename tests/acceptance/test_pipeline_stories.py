"""Stories of who is told what, and when: silences, flapping, groups, repeats, and a monitor that dies in between."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from monitor import wiring
from monitor.channels.base import Delivery
from monitor.domain.silence import Kind
from monitor.tasks.notify import Notify, RetryPolicy
from monitor.telemetry import Metrics
from tests.support.monitored import HOP, NORMAL, SLOT, Inbox, Stage, Traffic, settings

GONE = Traffic(image_gone=True)
OUTAGE = ("ModalityUnavailable", "image")


class Story:
    """A model in service, its monitor, its on-call person, and what they say of alerts."""

    def __init__(self, database: str, stage: Stage, **changes: Any) -> None:
        self.stage, self.clock, self.inbox = stage, stage.clock, Inbox()
        given = settings(database, **changes)
        self.metrics = Metrics()
        self.detect = wiring.detect(given, stage.engine, self.metrics, stage.clock)
        self.notify = self.sender(self.inbox)
        self.silences = wiring.silences(given, stage.engine, stage.clock)

    def sender(self, inbox: Inbox) -> Notify:
        return Notify(self.stage.engine, {"log": inbox}, RetryPolicy(), Metrics(), self.clock)

    def tick(self) -> None:
        self.detect.run()
        self.notify.run()

    def play(self, seconds: int, traffic: Traffic) -> None:
        for _ in range(seconds // SLOT):
            self.stage.slot(traffic)
            self.clock.advance(SLOT)
            self.tick()

    def told(self) -> list[tuple[str, str, str]]:
        return self.inbox.told()

    def silence(self, seconds: int, **matchers: str) -> int:
        end = self.clock.now() + timedelta(seconds=seconds)
        made = self.silences.add(matchers, kind=Kind.SILENCE, start=None, end=end, owner="ann", reason="new camera")
        return made.silence_id

    def reasons(self, status: str) -> set[str]:
        return {row.reason for row in self.stage.notifications() if row.status == status}


@pytest.fixture
def story(database: str, stage: Stage) -> Story:
    return Story(database, stage)


def test_a_silence_holds_a_page_and_its_end_tells_it_once(story: Story) -> None:
    story.play(60, NORMAL)
    silence = story.silence(60, alertname="ModalityUnavailable", modality="image")
    story.play(50, GONE)
    assert story.told() == []
    assert [alert.state for alert in story.stage.alerts() if alert.alertname == OUTAGE[0]] == ["firing"]
    assert story.reasons("suppressed") == {f"silenced: silence {silence}"}
    assert story.stage.alerts()[0].silenced_by == silence
    story.play(60, GONE)
    assert story.told() == [(*OUTAGE, "firing")]
    assert story.reasons("sent") == {f"silence_ended: {silence}"}
    story.play(60, NORMAL)
    assert story.told()[1:] == [(*OUTAGE, "resolved")]


def test_what_was_told_before_its_silence_is_told_once_more_at_its_end(story: Story) -> None:
    story.play(60, NORMAL)
    story.play(20, GONE)
    assert story.told() == [(*OUTAGE, "firing")]
    silence = story.silence(3600, severity="page")
    story.play(20, GONE)
    story.silences.end(silence, actor="bob", reason="done")
    story.play(60, GONE)
    assert story.told() == [(*OUTAGE, "firing")] * 2
    assert len(set(story.inbox.keys)) == 2, "a receiver that drops repeated keys must not drop this one"
    audit = "SELECT string_agg(action || ' ' || actor, ', ' ORDER BY audit_id) FROM audit_log"
    assert story.stage.scalar(audit) == "silence_created ann, silence_ended bob"


def test_an_incident_that_ends_within_its_silence_is_closed_for_whom_it_was_told(story: Story) -> None:
    story.play(60, NORMAL)
    story.play(20, GONE)
    story.silence(3600, alertname="ModalityUnavailable")
    story.play(60, NORMAL)
    assert story.told() == [(*OUTAGE, "firing"), (*OUTAGE, "resolved")]


def test_a_silence_of_another_modality_holds_nothing(story: Story) -> None:
    story.play(60, NORMAL)
    story.silence(3600, alertname="ModalityUnavailable", modality="text")
    story.play(20, GONE)
    assert story.told() == [(*OUTAGE, "firing")]


def test_a_maintenance_window_holds_everything_from_its_start(story: Story) -> None:
    story.play(60, NORMAL)
    start = story.clock.now() + timedelta(seconds=20)
    end = start + timedelta(seconds=100)
    story.silences.add({}, kind=Kind.MAINTENANCE, start=start, end=end, owner="ann", reason="upgrade")
    story.play(20, NORMAL)
    story.play(40, GONE)
    story.play(60, NORMAL)
    assert story.told() == []


def test_an_alert_that_flaps_pages_first_and_becomes_one_ticket(database: str, stage: Stage) -> None:
    story = Story(database, stage, flap_seconds=1800)
    story.play(60, NORMAL)
    for _ in range(5):
        story.play(20, GONE)
        story.play(40, NORMAL)
    fired = [alert for alert in stage.alerts() if alert.alertname == OUTAGE[0] and alert.firing_since]
    assert len(fired) == 5
    pair = [(*OUTAGE, "firing"), (*OUTAGE, "resolved")]
    assert [told for told in story.told() if told[0] == OUTAGE[0]] == pair * 2
    assert [told for told in story.told() if told[0] != OUTAGE[0]] == [("AlertFlapping", "image", "firing")]
    assert "flapping" in story.reasons("suppressed")
    ticket = next(each for each in story.inbox.messages if each["alertname"] == "AlertFlapping")
    assert ticket["severity"] == "ticket"
    assert "ModalityUnavailable(image) has fired and resolved 4 times" in ticket["summary"]
    counted = story.metrics.registry.get_sample_value(
        "fusion_alert_decisions_total", {"decision": "suppressed", "reason": "flapping"}
    )
    assert counted == 3


def test_what_has_settled_closes_its_ticket_and_pages_again(database: str, stage: Stage) -> None:
    story = Story(database, stage, flap_seconds=120)
    story.play(60, NORMAL)
    for _ in range(2):
        story.play(20, GONE)
        story.play(30, NORMAL)
    assert story.told()[-1] == ("AlertFlapping", "image", "firing")
    story.play(160, NORMAL)
    assert story.told()[-1] == ("AlertFlapping", "image", "resolved")
    story.play(20, GONE)
    assert story.told()[-1] == (*OUTAGE, "firing")


def test_alerts_of_one_group_within_the_wait_are_one_message(database: str, stage: Stage) -> None:
    story = Story(database, stage, group_wait_seconds=30, group_interval_seconds=300)
    drift = Traffic(image_shift=1.0, text_shift=1.0, fused_shift=1.0)
    story.play(60, NORMAL)
    while not any(row.status == "due" for row in stage.notifications()):
        story.play(SLOT, drift)
    begun = story.clock.now()
    story.play(25, drift)
    assert story.inbox.messages == []
    story.play(10, drift)
    assert (story.clock.now() - begun).total_seconds() <= 35
    [message] = story.inbox.messages
    assert message["alertname"] == "EmbeddingDrift"
    names = {message["modality"], *(each["modality"] for each in message["grouped"])}
    assert names == {"image", "text"}
    assert "(and 1 more: " in message["summary"]


def test_the_next_message_of_a_group_waits_for_the_interval(database: str, stage: Stage) -> None:
    story = Story(database, stage, group_wait_seconds=0, group_interval_seconds=100)
    story.play(60, NORMAL)
    story.play(20, GONE)
    paged = story.clock.now()
    assert story.told() == [(*OUTAGE, "firing")]
    while len(story.told()) == 1:
        story.play(SLOT, NORMAL)
    assert story.told()[1:] == [(*OUTAGE, "resolved")]
    assert 100 - HOP <= (story.clock.now() - paged).total_seconds() <= 100 + HOP


@pytest.mark.parametrize("acknowledged", [False, True])
def test_what_still_fires_is_repeated_until_somebody_looks_after_it(
    database: str, stage: Stage, acknowledged: bool
) -> None:
    story = Story(database, stage, repeat_seconds=60)
    story.play(60, NORMAL)
    story.play(20, GONE)
    if acknowledged:
        [alert] = [each for each in stage.alerts() if each.alertname == OUTAGE[0]]
        assert story.silences.acknowledge(alert.alert_id, actor="ann") == "ModalityUnavailable(image)"
    story.play(100, GONE)
    assert story.told() == [(*OUTAGE, "firing")] * (1 if acknowledged else 2)
    story.play(60, NORMAL)
    assert story.told()[-1] == (*OUTAGE, "resolved")
    assert story.told().count((*OUTAGE, "resolved")) == 1


def test_a_monitor_that_dies_before_sending_loses_nothing_and_repeats_nothing(story: Story) -> None:
    story.play(60, NORMAL)
    for _ in range(20 // SLOT):
        story.stage.slot(GONE)
        story.clock.advance(SLOT)
        story.detect.run()
    assert story.told() == []
    for _ in range(3):
        story.sender(story.inbox).run()
    assert story.told() == [(*OUTAGE, "firing")]


def test_a_monitor_that_dies_while_sending_says_it_again_with_the_same_key(story: Story) -> None:
    story.play(60, NORMAL)
    heard = Inbox()

    class Dies(Inbox):
        def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
            heard.send(message, dedup_key)
            raise SystemExit("killed")

    story.notify = story.sender(Dies())
    with pytest.raises(SystemExit):
        story.play(20, GONE)
    story.sender(heard).run()
    story.sender(heard).run()
    assert heard.told() == [(*OUTAGE, "firing")] * 2
    assert len(set(heard.keys)) == 1


def test_alert_and_outbox_row_are_written_together_or_not_at_all(story: Story) -> None:
    """The database refuses the outbox row: the alert has not moved and the window is judged again."""
    story.play(60, NORMAL)
    refuse = (
        "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$ LANGUAGE plpgsql;"
        "CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with story.stage.engine.begin() as connection:
        connection.exec_driver_sql(refuse)
    with pytest.raises(DBAPIError, match="refused"):
        story.play(30, GONE)
    assert {alert.state for alert in story.stage.alerts()} <= {"pending"}
    windows = "SELECT count(*) FROM findings WHERE detector = 'baseline'"
    judged = story.stage.scalar(windows)
    with story.stage.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER refuse ON notifications")
    story.tick()
    assert story.stage.scalar(windows) > judged
    assert story.told() == [(*OUTAGE, "firing")]


def test_two_monitors_at_once_tell_each_thing_once(database: str, stage: Stage) -> None:
    """Neither leads: both judge and send all the time, as in the moment of a takeover."""
    story, other = Story(database, stage), Story(database, stage)
    story.play(60, NORMAL)
    for traffic in [GONE] * 6 + [NORMAL] * 8:
        stage.slot(traffic)
        stage.clock.advance(SLOT)
        monitors = [threading.Thread(target=each.tick) for each in (story, other, story, other)]
        for monitor in monitors:
            monitor.start()
        for monitor in monitors:
            monitor.join()
    assert sorted(story.told() + other.told()) == [(*OUTAGE, "firing"), (*OUTAGE, "resolved")]
    assert stage.scalar("SELECT count(*) FROM alerts WHERE firing_since IS NOT NULL AND inhibited_by IS NULL") == 1

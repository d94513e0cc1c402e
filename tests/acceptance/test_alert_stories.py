"""Stories with a clock: traffic is played slot by slot, the monitor runs each second slot, people are told."""

from __future__ import annotations

from datetime import datetime

import pytest

from migrations.connect import connect
from monitor import wiring
from monitor.tasks.notify import Notify, RetryPolicy
from monitor.telemetry import Metrics
from tests.support.monitored import HOP, NORMAL, SLOT, T0, WINDOW, Inbox, Stage, StoryClock, Traffic, settings


class Story:
    """A model in service, its monitor and its on-call person. Times are seconds since the story's start."""

    def __init__(self, database: str, stage: Stage) -> None:
        self.stage = stage
        self.clock = stage.clock
        self.database = database
        self.inbox = Inbox()
        self.heard: list[tuple[float, str, str, str]] = []
        self.restart()

    def restart(self) -> None:
        """A monitor that remembers nothing."""
        engine = self.stage.engine
        self.detect = wiring.detect(settings(self.database), engine, Metrics(), self.clock)
        self.notify = Notify(engine, {"log": self.inbox}, RetryPolicy(), Metrics(), self.clock)

    def tick(self) -> None:
        before = len(self.inbox.messages)
        self.detect.run()
        self.notify.run()
        for told in self.inbox.told()[before:]:
            self.heard.append((self.seconds(self.clock.now()), *told))

    def seconds(self, moment: datetime) -> float:
        return (moment - T0).total_seconds()

    def play(self, seconds: int, traffic: Traffic | None, version: str = "v1") -> None:
        for _ in range(seconds // SLOT):
            if traffic is not None:
                self.stage.slot(traffic, version)
            self.clock.advance(SLOT)
            self.tick()

    def names(self) -> list[tuple[str, str, str]]:
        return [(name, modality, state) for _, name, modality, state in self.heard]

    def when(self, name: str, modality: str, state: str) -> float:
        times = [at for at, *told in self.heard if told == [name, modality, state]]
        assert len(times) == 1, f"{name} {modality} {state} was told {len(times)} times: {self.heard}"
        return times[0]


@pytest.fixture
def story(database: str, stage: Stage) -> Story:
    return Story(database, stage)


def test_normal_traffic_raises_nothing(story: Story) -> None:
    story.play(200, NORMAL)
    assert story.heard == []
    assert set(story.stage.verdicts("embedding_mmd", "image")[2:]) == {"ok"}
    assert set(story.stage.verdicts("availability", "image")[1:]) == {"ok"}


def test_an_outage_pages_once_silences_what_it_explains_and_resolves(story: Story) -> None:
    story.play(60, NORMAL)
    story.play(30, Traffic(image_gone=True))
    story.play(120, NORMAL)
    assert story.names() == [("ModalityUnavailable", "image", "firing"), ("ModalityUnavailable", "image", "resolved")]
    assert 60 < story.when("ModalityUnavailable", "image", "firing") <= 60 + 2 * HOP
    assert 90 < story.when("ModalityUnavailable", "image", "resolved") <= 90 + 3 * HOP
    page = story.inbox.messages[0]
    assert page["severity"] == "page"
    assert "0 of 400" in page["summary"]
    assert page["runbook"].endswith("dashboards/runbooks/modality-unavailable.md")


def test_an_outage_that_brings_other_drift_pages_alone(story: Story) -> None:
    """The image dies; what is left of it and the joint embedding move for as long as windows hold the incident."""
    story.play(60, NORMAL)
    story.play(10, Traffic(image_gone=True))
    story.play(20, Traffic(image_shift=3.0))
    story.play(20, Traffic(image_gone=True))
    story.play(100, NORMAL)
    assert {name for name, *_ in story.names()} == {"ModalityUnavailable"}
    reasons = {row.reason for row in story.stage.notifications() if row.status == "suppressed"}
    assert "inhibited: ModalityUnavailable(image)" in reasons


def test_a_new_camera_is_one_ticket_that_names_image_and_what_moved(story: Story) -> None:
    story.play(60, NORMAL)
    story.play(60, Traffic(image_shift=1.0))
    story.play(100, NORMAL)
    assert story.names() == [("EmbeddingDrift", "image", "firing"), ("EmbeddingDrift", "image", "resolved")]
    assert 60 < story.when("EmbeddingDrift", "image", "firing") <= 60 + 4 * HOP
    assert 120 < story.when("EmbeddingDrift", "image", "resolved") <= 120 + WINDOW + 3 * HOP
    ticket = story.inbox.messages[0]
    assert ticket["severity"] == "ticket"
    assert ticket["moved"][0]["statistic"] == "brightness"
    assert ticket["model_version"] == "v1"
    assert ticket["p_value"] < 0.001
    assert {row.inhibited_by for row in story.stage.alerts() if row.modality == "fused"} == {"EmbeddingDrift(image)"}


def test_a_drift_that_changes_no_answer_is_a_note_and_no_alert(story: Story) -> None:
    story.play(60, NORMAL)
    story.play(60, Traffic(text_shift=1.0))
    assert story.heard == []
    assert story.stage.verdicts("embedding_mmd", "text")[-1] == "drift"
    told = "SELECT explanation FROM findings WHERE modality = 'text' AND verdict = 'drift' ORDER BY finding_id DESC"
    assert "this is a note and no alert" in story.stage.scalar(told)
    since = "SELECT count(DISTINCT details->>'since') FROM findings WHERE modality = 'text' AND verdict = 'drift'"
    assert story.stage.scalar(since) == 1, "one run of drift has one beginning"


def test_broken_pairing_is_told_as_that_while_the_marginals_stay_ok(story: Story) -> None:
    story.play(60, NORMAL)
    story.play(60, Traffic(pairing=-1.0, fused_shift=1.0))
    story.play(100, NORMAL)
    assert story.names() == [("PairingDrift", "fused", "firing"), ("PairingDrift", "fused", "resolved")]
    for modality in ("image", "text"):
        assert "drift" not in story.stage.verdicts("embedding_mmd", modality)


def test_a_consequence_that_outlives_its_cause_is_told_once(story: Story) -> None:
    story.play(60, NORMAL)
    story.play(60, Traffic(image_shift=1.0))
    quiet = len(story.heard)
    story.play(200, Traffic(fused_shift=1.0))
    later = story.names()[quiet:]
    assert later.count(("EmbeddingDrift", "fused", "firing")) == 1
    assert story.when("EmbeddingDrift", "fused", "firing") >= story.when("EmbeddingDrift", "image", "resolved") + WINDOW


def test_a_silent_stream_pages_by_wall_clock_and_resolves(story: Story) -> None:
    story.play(60, NORMAL)
    story.play(60, None)
    story.play(20, NORMAL)
    assert story.names() == [("StreamSilent", "all", "firing"), ("StreamSilent", "all", "resolved")]
    assert 60 + 40 <= story.when("StreamSilent", "all", "firing") <= 60 + 40 + 2 * SLOT
    assert 120 < story.when("StreamSilent", "all", "resolved") <= 120 + 2 * SLOT


def test_a_stream_that_never_spoke_is_not_silent(story: Story) -> None:
    story.play(200, None)
    assert story.heard == []
    assert set(story.stage.verdicts("availability", "image")) == {"no_data"}


def test_a_restart_while_firing_repeats_nothing_and_still_resolves(story: Story) -> None:
    story.play(60, NORMAL)
    story.play(20, Traffic(image_gone=True))
    for _ in range(3):
        story.restart()
        story.tick()
    assert story.names() == [("ModalityUnavailable", "image", "firing")]
    story.restart()
    story.play(60, NORMAL)
    assert story.names()[1:] == [("ModalityUnavailable", "image", "resolved")]


def test_a_clock_set_back_neither_repeats_nor_resolves(story: Story) -> None:
    story.play(60, NORMAL)
    story.play(30, Traffic(image_gone=True))
    findings = story.stage.scalar("SELECT count(*) FROM findings")
    story.clock.advance(-50)
    for _ in range(10):
        story.tick()
    assert story.stage.scalar("SELECT count(*) FROM findings") == findings
    assert story.names() == [("ModalityUnavailable", "image", "firing")]
    story.clock.advance(50)
    story.play(60, NORMAL)
    assert story.names()[1:] == [("ModalityUnavailable", "image", "resolved")]


def test_after_an_absence_only_the_newest_windows_are_judged(database: str, story: Story) -> None:
    story.play(20, NORMAL)
    judged = len(story.stage.verdicts("baseline", "all"))
    for _ in range(400 // SLOT):
        story.stage.slot(NORMAL)
        story.clock.advance(SLOT)
    story.tick()
    assert len(story.stage.verdicts("baseline", "all")) - judged == settings(database).catch_up_windows


def test_without_a_baseline_there_is_one_ticket_and_availability_still_pages(database: str) -> None:
    engine = connect(database, application="test")
    stage = Stage(engine, StoryClock())
    stage.register("v1", baseline=False)
    story = Story(database, stage)
    story.play(40, NORMAL)
    story.play(30, Traffic(image_gone=True))
    assert story.names() == [("BaselineMissing", "all", "firing"), ("ModalityUnavailable", "image", "firing")]
    assert set(stage.verdicts("embedding_mmd", "image")) == {"no_baseline", "no_data"}
    engine.dispose()


def test_another_encoder_is_refused_as_a_missing_baseline_and_the_other_detectors_go_on(story: Story) -> None:
    with story.stage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE baseline_summaries SET encoder_fingerprint = 'e0' WHERE modality = 'image'")
    story.play(60, NORMAL)
    assert story.names() == [("BaselineMissing", "all", "firing")]
    assert "encoder e0" in story.inbox.messages[0]["summary"]
    assert set(story.stage.verdicts("pairing", "fused")[2:]) == {"ok"}

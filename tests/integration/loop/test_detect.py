"""Detection's promises about the database: one transaction, one effect."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from monitor import wiring
from monitor.storage import notifications
from monitor.tasks.detect import Detect
from monitor.telemetry import Metrics
from tests.support.monitored import GRACE, HOP, NORMAL, SLOT, T0, Stage, Traffic, settings


@pytest.fixture
def detect(stage: Stage, database: str) -> Detect:
    stage.register("v1")
    return wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)


def outage(stage: Stage) -> None:
    for _ in range(HOP // SLOT):
        stage.slot(Traffic(image_gone=True))
        stage.clock.advance(SLOT)
    stage.clock.advance(GRACE)


def counts(stage: Stage) -> dict[str, int]:
    tables = ("findings", "alerts", "notifications")
    return {table: stage.scalar(f"SELECT count(*) FROM {table}") for table in tables}


def test_a_window_waits_for_its_grace(stage: Stage, detect: Detect) -> None:
    for _ in range(HOP // SLOT):
        stage.slot(NORMAL)
        stage.clock.advance(SLOT)
    stage.clock.advance(GRACE - 1)
    detect.run()
    newest = "SELECT max(window_end) FROM findings"
    assert stage.scalar(newest) == T0
    stage.clock.advance(1)
    detect.run()
    assert stage.scalar(newest) == T0 + timedelta(seconds=HOP)
    assert stage.verdicts("availability", "text")[-1] == "ok"


def test_every_enabled_detector_leaves_a_finding_and_running_again_adds_none(stage: Stage, detect: Detect) -> None:
    outage(stage)
    detect.run()
    with stage.engine.connect() as connection:
        found = {tuple(row) for row in connection.execute(text("SELECT detector, modality FROM findings"))}
    assert found >= {
        ("availability", "image"),
        ("availability", "text"),
        ("embedding_mmd", "image"),
        ("embedding_mmd", "text"),
        ("embedding_mmd", "fused"),
        ("pairing", "fused"),
        ("class_drift", "fused"),
        ("agreement", "fused"),
        ("accuracy", "fused"),
        ("calibration", "fused"),
        ("baseline", "all"),
    }
    before = counts(stage)
    detect.run()
    assert counts(stage) == before


def test_a_crash_before_the_commit_leaves_nothing_and_the_next_run_does_it_once(
    stage: Stage, detect: Detect, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage(stage)
    before = counts(stage)
    whole = notifications.write

    def crash(*args: Any) -> None:
        whole(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(notifications, "write", crash)
    with pytest.raises(KeyboardInterrupt):
        detect.run()
    assert counts(stage) == before == {"findings": 0, "alerts": 0, "notifications": 0}
    monkeypatch.undo()
    detect.run()
    assert (counts(stage)["alerts"], counts(stage)["notifications"]) == (1, 1)


def test_two_monitors_at_once_judge_a_window_once(stage: Stage, detect: Detect, database: str) -> None:
    outage(stage)
    other = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)
    threads = [threading.Thread(target=one.run) for one in (detect, other, detect, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counts(stage)["alerts"], counts(stage)["notifications"]) == (1, 1)
    assert stage.verdicts("baseline", "all") == ["ok"]


def test_without_a_champion_it_waits(stage: Stage, database: str) -> None:
    wiring.detect(settings(database), stage.engine, Metrics(), stage.clock).run()
    assert counts(stage) == {"findings": 0, "alerts": 0, "notifications": 0}


def test_labels_that_show_a_drop_become_tickets(stage: Stage, detect: Detect) -> None:
    for _ in range(4):
        outage_free(stage)
        stage.label(300, right=0.6)
        detect.run()
    outage_free(stage)
    detect.run()
    firing = {row.alertname for row in stage.alerts() if row.state == "firing"}
    assert firing == {"AccuracyDrop", "CalibrationDrift"}
    finding = stage.scalar(
        "SELECT explanation FROM findings WHERE detector = 'accuracy' ORDER BY window_end DESC LIMIT 1"
    )
    assert "900 labelled answers" in finding


def test_labels_of_another_version_say_nothing_of_the_champion(stage: Stage, detect: Detect) -> None:
    stage.register("v0", champion=False)
    outage_free(stage)
    stage.label(600, right=0.3, version="v0")
    stage.clock.advance(HOP)
    detect.run()
    assert stage.verdicts("accuracy", "fused")[-1] == "no_data"


def test_an_alert_of_the_old_champion_closes_by_the_new_ones_own_labels(stage: Stage, detect: Detect) -> None:
    for _ in range(4):
        outage_free(stage)
        stage.label(300, right=0.6)
        detect.run()
    stage.register("v2", champion=False)
    with stage.engine.begin() as connection:
        connection.execute(text("UPDATE model_aliases SET version = 'v2'"))
    outage_free(stage)
    detect.run()
    assert "firing" in {row.state for row in stage.alerts()}, "a version without labels is not yet better"
    for _ in range(4):
        outage_free(stage)
        stage.label(300, right=0.97, version="v2")
        detect.run()
    assert {row.state for row in stage.alerts() if row.firing_since} == {"resolved"}


def outage_free(stage: Stage) -> None:
    for _ in range(HOP // SLOT):
        stage.slot(NORMAL)
        stage.clock.advance(SLOT)


def test_rows_of_a_clock_that_is_ahead_by_years_do_not_hide_a_stream_that_stopped(stage: Stage, database: str) -> None:
    stage.register("v1")
    stage.slot(NORMAL)
    years = 10 * 365 * 86400
    stage.clock.advance(years)
    stage.slot(NORMAL)
    stage.clock.advance(-years + 600)
    wiring.detect(settings(database), stage.engine, Metrics(), stage.clock).run()
    assert [alert.alertname for alert in stage.alerts()] == ["StreamSilent"]

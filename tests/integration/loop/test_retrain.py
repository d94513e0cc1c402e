"""Jobs from decision to training, on the real tables: once, and audited."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update

from migrations.schema.monitoring import alerts, jobs, model_versions
from monitor import loop_wiring, wiring
from monitor.errors import ActiveJobError, ServedElsewhereError
from monitor.tasks.retrain import Retrain
from monitor.telemetry import Metrics
from tests.support.monitored import GRACE, HOP, SLOT, Stage, Traffic, settings


@pytest.fixture
def retrain(stage: Stage, database: str) -> Retrain:
    stage.register("v1")
    return build(stage, database)


def build(stage: Stage, database: str) -> Retrain:
    limits = {"retrain_min_labels": 100, "retrain_min_labels_per_class": 20}
    return loop_wiring.retrain(settings(database, **limits), stage.engine, Metrics(), stage.clock)


def drop_in_accuracy(stage: Stage, version: str = "v1") -> None:
    """Lasting drift, the alert that labels raise, and labels enough to train on."""
    now = stage.clock.now()
    stage.drift(version)
    with stage.engine.begin() as connection:
        connection.execute(
            insert(alerts).values(
                fingerprint="a" * 64,
                alertname="AccuracyDrop",
                severity="ticket",
                modality="fused",
                state="firing",
                pending_since=now,
                firing_since=now,
                last_window_end=now,
                labels={"model": "fusion", "modality": "fused"},
                annotations={"model_version": version},
            )
        )
    stage.label(200, right=0.6)


def job(stage: Stage) -> Any:
    with stage.engine.connect() as connection:
        return connection.execute(jobs.select().order_by(jobs.c.job_id.desc())).first()


def trainer(stage: Stage, **values: Any) -> None:
    """What a trainer writes into the job it holds."""
    with stage.engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.job_id == job(stage).job_id).values(**values))


def audited(stage: Stage) -> list[tuple[str, str]]:
    with stage.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT action, subject FROM audit_log ORDER BY at"))]


def test_a_drop_by_labels_queues_one_job_with_its_reasons(stage: Stage, retrain: Retrain) -> None:
    drop_in_accuracy(stage)
    for _ in range(3):
        retrain.run()
    assert stage.scalar("SELECT count(*) FROM jobs") == 1
    queued = job(stage)
    assert (queued.state, queued.spec["base_version"]) == ("queued", "v1")
    assert "labels show a drop: AccuracyDrop" in queued.spec["reasons"]
    with stage.engine.connect() as connection:
        decisions = connection.execute(text("SELECT retrain, job_id, reasons FROM retrain_decisions")).all()
    assert [(row.retrain, row.job_id) for row in decisions] == [(True, queued.job_id), (False, None)]
    unmet = [reason["name"] for reason in decisions[1].reasons if not reason["met"]]
    assert {"cooldown", "no_active_job"} <= set(unmet)


def test_no_is_recorded_once_with_its_reasons(stage: Stage, retrain: Retrain) -> None:
    for _ in range(3):
        retrain.run()
    assert stage.scalar("SELECT count(*) FROM retrain_decisions") == 1
    stage.label(5, right=0.9)
    stage.clock.advance(HOP)
    retrain.run()
    assert stage.scalar("SELECT count(*) FROM retrain_decisions") == 1, "the same conditions are met"
    with stage.engine.connect() as connection:
        kept = connection.execute(text("SELECT * FROM retrain_decisions")).one()
    assert kept.confirmed_at - kept.decided_at == timedelta(seconds=HOP), "but with newer words"
    assert "5 new labels, 100 needed" in [reason["text"] for reason in kept.reasons]
    stage.label(200, right=0.9)
    retrain.run()
    assert stage.scalar("SELECT count(*) FROM retrain_decisions") == 2
    assert job(stage) is None


def test_a_persons_approval_stands_for_a_drop_once(stage: Stage, retrain: Retrain, database: str) -> None:
    policy = loop_wiring.policy(settings(database), stage.engine, Metrics(), stage.clock)
    stage.drift()
    stage.label(200, right=0.9)
    retrain.run()
    assert job(stage) is None
    policy.approve("the new camera is there to stay", "kim")
    stage.clock.advance(7 * 86400)
    retrain.run()
    assert job(stage) is None, "it has expired"
    policy.approve("it is still there", "kim")
    retrain.run()
    queued = job(stage)
    assert any("kim approved it" in reason for reason in queued.spec["reasons"])
    assert stage.scalar("SELECT job_id FROM retrain_approvals WHERE reason LIKE 'it is%'") == queued.job_id
    assert [action for action, _ in audited(stage)] == ["retrain_approved", "retrain_approved"]
    with stage.engine.connect() as connection:
        decided = connection.execute(text("SELECT * FROM retrain_decisions WHERE retrain")).one()
        newest = connection.execute(text("SELECT * FROM findings WHERE verdict = 'drift' ORDER BY window_end DESC"))
        assert decided.evidence["findings"] == [newest.first().finding_id]  # type: ignore[union-attr]
    assert (decided.model_version, decided.job_id) == ("v1", queued.job_id)


def test_jobs_that_used_the_weeks_budget_up_keep_the_next_away_whatever_became_of_them(
    stage: Stage, retrain: Retrain
) -> None:
    stage.clock.advance(-3 * 86400)
    for state, hours in (("failed", 5), ("cancelled", 4), ("rejected", 2)):
        retrain.request("try", "kim")
        newest = select(func.max(jobs.c.job_id)).scalar_subquery()
        values = {"state": state, "compute_seconds": hours * 3600.0, "finished_at": stage.clock.now()}
        with stage.engine.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.job_id == newest).values(values))
    stage.clock.advance(3 * 86400)
    drop_in_accuracy(stage)
    retrain.run()
    reasons = stage.scalar("SELECT reasons FROM retrain_decisions WHERE NOT retrain")
    assert [each["text"] for each in reasons if not each["met"]] == [
        "660 of 600 minutes of computing used in seven days"
    ]
    trainer(stage, compute_seconds=60.0)
    retrain.run()
    assert stage.scalar("SELECT count(*) FROM jobs") == 4


def test_an_alert_about_a_version_that_no_longer_answers_is_no_reason(stage: Stage, retrain: Retrain) -> None:
    drop_in_accuracy(stage, version="v0")
    retrain.run()
    assert job(stage) is None


def test_two_monitors_queue_one_job(stage: Stage, retrain: Retrain, database: str) -> None:
    drop_in_accuracy(stage)
    threads = [threading.Thread(target=build(stage, database).run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stage.scalar("SELECT count(*) FROM jobs") == 1
    assert stage.scalar("SELECT count(*) FROM retrain_decisions WHERE retrain") == 1


def test_a_second_request_is_refused_while_a_job_is_active(stage: Stage, retrain: Retrain) -> None:
    retrain.request("try", "kim")
    with pytest.raises(ActiveJobError):
        retrain.request("again", "kim")
    assert [action for action, _ in audited(stage)] == ["retrain_requested"]


def test_the_cooldown_keeps_a_second_job_away_and_then_lets_it(stage: Stage, retrain: Retrain) -> None:
    drop_in_accuracy(stage)
    retrain.run()
    trainer(stage, state="rejected")
    stage.label(200, right=0.6)
    retrain.run()
    assert stage.scalar("SELECT count(*) FROM jobs") == 1
    with stage.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET created_at = created_at - interval '25 hours'"))
    retrain.run()
    assert stage.scalar("SELECT count(*) FROM jobs") == 2


def test_a_model_that_is_served_elsewhere_is_not_trained_here(stage: Stage, retrain: Retrain) -> None:
    with stage.engine.begin() as connection:
        connection.execute(update(model_versions).values(family="observed"))
    drop_in_accuracy(stage)
    for _ in range(2):
        retrain.run()
    assert stage.scalar("SELECT count(*) FROM jobs") == 0
    assert stage.scalar("SELECT count(*) FROM retrain_decisions") == 1
    reasons = stage.scalar("SELECT reasons FROM retrain_decisions WHERE NOT retrain")
    unmet = [each["text"] for each in reasons if not each["met"]]
    assert unmet == ["no: this model is served elsewhere, and trained there"]
    with pytest.raises(ServedElsewhereError):
        retrain.request("please", actor="alice")


def test_what_the_detectors_find_of_a_new_camera_leads_to_a_job(stage: Stage, database: str) -> None:
    """Windows of drift alone are no reason; labels that show a drop are, as soon as their alert fires."""
    stage.register("v1")
    given = settings(database, retrain_min_labels=100, retrain_min_labels_per_class=20, label_queue_entries=0)
    detect = wiring.detect(given, stage.engine, Metrics(), stage.clock)
    retrain = loop_wiring.retrain(given, stage.engine, Metrics(), stage.clock)

    def windows(count: int, labels: int = 0) -> None:
        for _ in range(count):
            if labels:
                stage.label(labels, right=0.6)
            for _ in range(HOP // SLOT):
                stage.slot(Traffic(image_shift=1.0))
                stage.clock.advance(SLOT)
            stage.clock.advance(GRACE)
            detect.run()
            retrain.run()
            stage.clock.advance(-GRACE)

    windows(6)
    assert "EmbeddingDrift" in {row.alertname for row in stage.alerts() if row.state == "firing"}
    assert job(stage) is None
    windows(3, labels=80)
    queued = job(stage)
    assert queued is not None, stage.scalar("SELECT reasons FROM retrain_decisions ORDER BY decision_id DESC LIMIT 1")
    told = " ".join(queued.spec["reasons"])
    assert "embedding_mmd of image" in told
    assert "labels show a drop: AccuracyDrop" in told
    shown = stage.scalar("SELECT evidence FROM retrain_decisions WHERE retrain")
    names = {row.alert_id: row.alertname for row in stage.alerts()}
    assert {"EmbeddingDrift", "AccuracyDrop"} <= {names[each] for each in shown["alerts"]}

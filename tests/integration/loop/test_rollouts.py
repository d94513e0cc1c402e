"""A challenger's way through shadow and canary, on the real tables: steps, rollback by itself, one champion."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import insert, text

from migrations.schema.monitoring import jobs
from migrations.schema.prediction_log import labels
from migrations.schema.rollouts import rollout_reports, shadow_log
from monitor import loop_wiring, wiring
from monitor.storage import models
from monitor.storage.rollouts import Rollout, newest
from monitor.storage.views import rollouts as views
from monitor.storage.views.models.base import Page
from monitor.tasks.rollouts import Rollouts
from monitor.telemetry import Metrics
from tests.support.commands import monitor_says
from tests.support.gated import RESULT
from tests.support.monitored import CLASSES, Stage, log_row, log_rows, settings

LIMITS = {"rollout_min_rows": 20, "rollout_min_labels": 20, "canary_passes": 2}
BOTH = {"rollout_stages": ["shadow", "canary"], **LIMITS}
CANARY = {"rollout_stages": ["canary"], **LIMITS}


def task(stage: Stage, database: str, **changes: Any) -> Rollouts:
    return loop_wiring.rollouts(settings(database, **changes), stage.engine, Metrics(), stage.clock)


def passes_gate(stage: Stage, database: str, **changes: Any) -> None:
    """A job whose candidate v2 the gate lets through."""
    stage.register("v1")
    stage.register("v2", champion=False)
    now = stage.clock.now()
    job = {"model": "fusion", "state": "trained", "spec": {}, "result": RESULT, "deadline": now, "created_at": now}
    with stage.engine.begin() as connection:
        connection.execute(insert(jobs).values(job))
    loop_wiring.candidates(settings(database, **changes), stage.engine, Metrics(), stage.clock).run()


def answers(stage: Stage, version: str, count: int, *, errors: int = 0) -> None:
    """Rows of the log that a version answered just now."""
    first = stage.offset
    stage.offset += count
    rows = []
    for i in range(count):
        row = log_row(f"r{first + i}", stage.clock.now(), version, CLASSES[i % 3], 0.9)
        bad = {"status": "error", "prediction": None, "error_code": "model_not_finite"} if i < errors else {}
        rows.append({**row, "error_code": None, **bad})
    if rows:
        with stage.engine.begin() as connection:
            log_rows(connection, rows)
    stage.clock.advance(10)


def shadowed(stage: Stage, rollout_id: int, count: int, *, differ: int = 0, better: bool = False) -> None:
    """What the challenger said in shadow: another class in `differ` rows in between, which labels call `better`."""
    now, first = stage.clock.now(), stage.offset
    stage.offset += count
    others = {each * count // differ for each in range(differ)}
    rows = [
        {
            "rollout_id": rollout_id,
            "request_id": f"s{first + i}",
            "logged_at": now,
            "status": "ok",
            "prediction": CLASSES[1] if i in others else CLASSES[0],
            "confidence": 0.9,
            "model_ms": 10.0,
            "champion_prediction": CLASSES[0],
            "champion_confidence": 0.8,
            "champion_model_ms": 10.0,
        }
        for i in range(count)
    ]
    truth = [
        {
            "request_id": f"s{first + i}",
            "label": CLASSES[1] if better and i in others else CLASSES[0],
            "labelled_at": now,
            "received_at": now,
            "source": "ground_truth",
        }
        for i in range(count)
    ]
    with stage.engine.begin() as connection:
        connection.execute(insert(shadow_log), rows)
        connection.execute(insert(labels), truth)


def rollout(stage: Stage) -> Rollout:
    with stage.engine.connect() as connection:
        (found,) = newest(connection, "fusion", 1)
    return found


def at(stage: Stage) -> tuple[str, int]:
    return rollout(stage).place.stage, rollout(stage).place.percent


def champion(stage: Stage) -> str:
    with stage.engine.connect() as connection:
        return models.champion(connection, "fusion").version


def audited(stage: Stage) -> list[str]:
    with stage.engine.connect() as connection:
        return list(connection.scalars(text("SELECT action FROM audit_log ORDER BY audit_id")))


def test_a_good_candidate_goes_from_the_gate_through_shadow_and_canary_to_champion(
    stage: Stage, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", database)
    passes_gate(stage, database, **BOTH)
    checking = task(stage, database, **BOTH)
    assert (champion(stage), at(stage), stage.scalar("SELECT state FROM jobs")) == ("v1", ("shadow", 10), "trained")
    loop_wiring.candidates(settings(database, **BOTH), stage.engine, Metrics(), stage.clock).run()
    shadowed(stage, rollout(stage).rollout_id, 30)
    checking.run()
    assert at(stage) == ("shadow", 10), "30 requests cannot tell"
    shadowed(stage, rollout(stage).rollout_id, 900, differ=40, better=True)
    checking.run()
    with stage.engine.connect() as connection:
        shown = views.champion_state(connection, "fusion").challenger
        assert views.rollouts_page(connection, "fusion", limit=1) == Page(items=[shown])
    assert shown is not None
    assert [(each.stage, each.outcome) for each in shown.checks] == [("shadow", "passed"), ("shadow", "inconclusive")]
    assert (shown.version, shown.champion, shown.job_id, shown.stage, shown.percent) == ("v2", "v1", 1, "canary", 10)
    for percent in (10, 50, 100):
        assert at(stage) == ("canary", percent)
        for _ in range(2):
            answers(stage, "v1", 50 if percent < 100 else 0)
            answers(stage, "v2", 50)
            checking.run()
    assert (champion(stage), rollout(stage).outcome) == ("v2", "promoted")
    assert stage.scalar("SELECT state FROM jobs") == "promoted"
    assert stage.scalar("SELECT result -> 'gate' ->> 'outcome' FROM jobs") == "passed"
    steps = ["shadow_passed", "canary_passed", "canary_passed"]
    assert audited(stage) == ["rollout_started", *steps, "promoted"]
    told = monitor_says("history")
    for words in (
        "gate: passed",
        "shadow passed",
        "canary at 10% passed, now canary at 50%",
        "promoted",
        "v2 by monitor",
    ):
        assert words in told
    told = monitor_says("champion", "rollout")
    assert "shadow 10%: inconclusive" in told
    assert "canary 100%: passed" in told
    assert "promoted: every check was passed" in told
    assert "v1 is champion again" in monitor_says("champion", "rollback", "--reason", "after all")
    with stage.engine.connect() as connection:
        state = views.champion_state(connection, "fusion")
    assert state.champion is not None
    assert (state.champion.version, state.rolls_back_to, state.challenger) == ("v1", None, None)
    moves = [(each.action, each.version, each.former, each.reason) for each in state.moves]
    assert moves == [("rolled_back", "v1", "v2", "after all"), ("promoted", "v2", "v1", "canary at 100% passed")]


def test_a_subtly_worse_candidate_is_stopped_in_shadow(stage: Stage, database: str) -> None:
    passes_gate(stage, database, **BOTH)
    shadowed(stage, rollout(stage).rollout_id, 900, differ=60)
    task(stage, database, **BOTH).run()
    assert (champion(stage), rollout(stage).outcome) == ("v1", "rolled_back")
    assert "accuracy: 0 labelled answers got better, 60 worse, of 900" in str(rollout(stage).reason)
    assert (stage.scalar("SELECT state FROM jobs"), audited(stage)) == ("rejected", ["rollout_started", "rejected"])


def test_five_failed_checks_in_a_row_roll_a_canary_back_by_itself(stage: Stage, database: str) -> None:
    passes_gate(stage, database, **CANARY)
    checking = task(stage, database, **CANARY)
    answers(stage, "v1", 100)
    for failed in range(4):
        answers(stage, "v2", 30, errors=15)
        checking.run()
        assert rollout(stage).place.failed == failed + 1
        checking.run()  # nothing new was answered: it holds
        assert (rollout(stage).place.failed, rollout(stage).outcome) == (failed + 1, None)
    answers(stage, "v2", 30, errors=15)
    others = [task(stage, database, **CANARY) for _ in range(3)]
    threads = [threading.Thread(target=one.run) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (champion(stage), rollout(stage).outcome) == ("v1", "rolled_back")
    assert (stage.scalar("SELECT state FROM jobs"), audited(stage)) == ("rejected", ["rollout_started", "rejected"])
    assert stage.scalar("SELECT count(*) FROM rollout_checks WHERE outcome = 'failed'") == 5
    detect = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)
    for _ in range(2):
        stage.clock.advance(1)
        detect.run()
        (told,) = stage.notifications()
        assert (told.event, told.payload["alertname"], told.payload["severity"]) == (
            "firing",
            "RolloutRolledBack",
            "ticket",
        )
        assert "Rollout 1 of v2 was taken away in canary at 10%: errors: 50.00%" in told.payload["summary"]
    checking.start("v2", actor="kim", reason="repaired")
    stage.clock.advance(1)
    detect.run()
    assert [each.event for each in stage.notifications()] == ["firing", "resolved"]
    stage.clock.advance(1)
    checking.stop(actor="kim", reason="seen enough")
    detect.run()
    assert len(stage.notifications()) == 2, "what a person stops is no ticket"


def test_a_challenger_that_workers_cannot_run_is_taken_away_without_an_answer_of_it(
    stage: Stage, database: str
) -> None:
    passes_gate(stage, database, **CANARY, canary_failures=2)
    checking = task(stage, database, **CANARY, canary_failures=2)
    for number in range(2):
        said = {"state": "refused", "detail": "no such folder", "reported_at": stage.clock.now()}
        with stage.engine.begin() as connection:
            row = {"rollout_id": rollout(stage).rollout_id, "worker_id": f"w{number}", **said}
            connection.execute(insert(rollout_reports).values(row))
        stage.clock.advance(10)
        checking.run()
        checking.run()
    assert rollout(stage).outcome == "rolled_back"
    assert "worker w1 refused it: no such folder" in str(rollout(stage).reason)


def test_people_begin_and_end_a_rollout_and_one_is_open_at_a_time(
    stage: Stage, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", database)
    for version in ("v2", "v3"):
        stage.register(version, champion=False)
    stage.register("v1")

    def told(*words: str) -> str:
        return monitor_says("champion", *words)

    assert "no stage to go through" in told("try", "v2", "--reason", "look")
    monkeypatch.setenv("FUSIONWATCH_ROLLOUT_STAGES", '["canary"]')
    assert "is no version" in told("try", "v1", "--reason", "look")
    assert "rollout 1 of v2 has begun" in told("try", "v2", "--reason", "look")
    assert "has an open rollout" in told("try", "v3", "--reason", "look")
    assert "v2 is in canary" in told("promote", "v3", "--reason", "look")
    assert "rollout 1 of v2 is over" in told("stop", "--reason", "seen enough")
    assert "no open rollout" in told("stop", "--reason", "again")
    assert "stopped it: seen enough" in told("rollout")


def test_a_rollout_ends_where_its_champion_or_its_job_is_gone(stage: Stage, database: str) -> None:
    passes_gate(stage, database, **CANARY)
    loop_wiring.cancelling(settings(database), stage.engine, stage.clock).cancel(1, actor="kim", reason="no")
    task(stage, database, **CANARY).run()
    assert rollout(stage).reason == "its job is cancelled"
    checking = task(stage, database, **CANARY)
    checking.start("v2", actor="kim", reason="again")
    stage.register("v3", champion=False)
    with stage.engine.begin() as connection:
        connection.execute(text("UPDATE model_aliases SET version = 'v3'"))
    checking.run()
    assert rollout(stage).reason == "the champion is no longer v1"

"""What was trained on its way to the champion, on the real tables: once, audited, and with exactly one champion."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select, text
from sqlalchemy.exc import DBAPIError

from demo import servers
from migrations.connect import connect
from migrations.schema.monitoring import audit_log, baselines, findings, jobs
from monitor import loop_wiring, wiring
from monitor.errors import PromotionError
from monitor.storage import models
from monitor.tasks.candidates import Candidates
from monitor.tasks.champions import Moved
from monitor.telemetry import Metrics
from tests.support.commands import monitor_says
from tests.support.gated import RESULT, as_good
from tests.support.monitored import GRACE, HOP, SLOT, Stage, StoryClock, Traffic, settings


@pytest.fixture
def candidates(stage: Stage, database: str) -> Candidates:
    stage.register("v1")
    return build(stage, database)


def build(stage: Stage, database: str, **changes: Any) -> Candidates:
    return loop_wiring.candidates(settings(database, **changes), stage.engine, Metrics(), stage.clock)


def trained(stage: Stage, result: dict[str, Any]) -> int:
    """A job that a trainer handed in; its id."""
    now = stage.clock.now()
    fields = {"model": "fusion", "state": "trained", "spec": {"base_version": "v1"}, "result": result, "deadline": now}
    with stage.engine.begin() as connection:
        job_id = connection.scalar(insert(jobs).values(fields).returning(jobs.c.job_id))
    assert job_id is not None
    return int(job_id)


def job(stage: Stage) -> Any:
    with stage.engine.connect() as connection:
        return connection.execute(jobs.select().order_by(jobs.c.job_id.desc())).first()


def champion(stage: Stage) -> str:
    with stage.engine.connect() as connection:
        return models.champion(connection, "fusion").version


def audited(stage: Stage) -> list[tuple[str, str]]:
    query = select(audit_log.c.action, audit_log.c.subject).order_by(audit_log.c.audit_id)
    with stage.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_a_good_candidate_is_promoted_and_audited_once(stage: Stage, candidates: Candidates, database: str) -> None:
    stage.register("v2", champion=False)
    trained(stage, RESULT)
    threads = [threading.Thread(target=build(stage, database).run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert champion(stage) == "v2"
    ended = job(stage)
    assert (ended.state, ended.result["gate"]["passed"]) == ("promoted", True)
    assert ended.result["candidate"] == RESULT["candidate"]
    assert [action for action, _ in audited(stage)] == ["promoted"]


def test_a_worse_candidate_is_rejected_with_reasons(stage: Stage, candidates: Candidates) -> None:
    stage.register("v2", champion=False)
    trained(stage, as_good(18, 6))
    candidates.run()
    assert champion(stage) == "v1"
    ended = job(stage)
    assert ended.state == "rejected"
    unmet = [one["name"] for one in ended.result["gate"]["conditions"] if not one["met"]]
    assert unmet == ["accuracy", "classes"]
    assert audited(stage)[-1] == ("rejected", "v2")


def test_a_candidate_without_its_own_baseline_is_rejected(stage: Stage, candidates: Candidates) -> None:
    stage.register("v2", champion=False, baseline=False)
    trained(stage, RESULT)
    candidates.run()
    assert (champion(stage), job(stage).state) == ("v1", "rejected")


def test_a_champion_that_changed_meanwhile_is_not_overwritten(stage: Stage, candidates: Candidates) -> None:
    for version in ("v2", "v3"):
        stage.register(version, champion=False)
    with stage.engine.begin() as connection:
        connection.execute(text("UPDATE model_aliases SET version = 'v3'"))
    trained(stage, RESULT)
    candidates.run()
    assert (champion(stage), job(stage).state) == ("v3", "rejected")
    assert "no longer v1" in job(stage).result["gate"]["conditions"][-1]["text"]


def test_a_crash_in_mid_promotion_leaves_the_old_champion_and_is_done_again(
    stage: Stage, candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.register("v2", champion=False)
    trained(stage, RESULT)

    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "audit", crash)
    with pytest.raises(KeyboardInterrupt):
        candidates.run()
    assert (champion(stage), job(stage).state) == ("v1", "trained")
    monkeypatch.undo()
    candidates.run()
    assert (champion(stage), job(stage).state) == ("v2", "promoted")


def test_a_result_that_makes_no_sense_fails_the_job(stage: Stage, candidates: Candidates) -> None:
    trained(stage, {"candidate": {}})
    candidates.run()
    assert job(stage).state == "failed"
    assert "incomplete" in job(stage).error


def test_a_promotion_by_hand_is_taken_back_by_one_command(
    stage: Stage, candidates: Candidates, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", database)
    stage.register("v2", champion=False)
    stage.register("v3", champion=False, baseline=False)

    def told(*words: str) -> str:
        return monitor_says("champion", *words)

    assert "v1 was never promoted" in told("rollback", "--reason", "why not")
    assert "has no version 'v9'; it has v1, v2, v3" in told("promote", "v9", "--reason", "try")
    assert "v3 has no baseline" in told("promote", "v3", "--reason", "try")
    assert "no job was judged yet" in told("gate")
    assert "v2 is champion in place of v1" in told("promote", "v2", "--reason", "try")
    assert "v1 is champion again, in place of v2" in told("rollback", "--reason", "slow")
    assert champion(stage) == "v1"
    assert audited(stage) == [("promoted", "v2"), ("rolled_back", "v1")]
    trained(stage, RESULT)
    candidates.run()
    shown = told("gate")
    assert "accuracy, class a" in shown
    assert "passed       reliance: confidence lost without each modality: image 0.300" in shown
    assert champion(stage) == "v2"
    assert "v1 is champion again" in told("rollback", "--reason", "one command")


def test_of_two_promoters_at_once_one_wins_and_the_other_is_told(
    stage: Stage, candidates: Candidates, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = loop_wiring.champions(settings(database), stage.engine, stage.clock)
    for version in ("v2", "v3"):
        stage.register(version, champion=False)
    looked = threading.Barrier(2)
    has_baseline = models.has_baseline

    def both_have_looked(connection: Connection, version: str) -> bool:
        looked.wait(timeout=30)
        return has_baseline(connection, version)

    monkeypatch.setattr(models, "has_baseline", both_have_looked)
    results: list[object] = []

    def promote(version: str) -> None:
        try:
            results.append(people.promote(version, actor="kim", reason="race"))
        except PromotionError as error:
            results.append(error)

    threads = [threading.Thread(target=promote, args=(version,)) for version in ("v2", "v3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [each for each in results if isinstance(each, Moved)]
    (lost,) = [each for each in results if isinstance(each, PromotionError)]
    assert "someone else was faster" in str(lost)
    assert (won.before, won.after) == ("v1", champion(stage))
    assert audited(stage) == [("promoted", won.after)]


def test_a_database_restarted_in_mid_promotion_has_exactly_one_champion() -> None:
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder, servers.postgres(Path(folder)) as server:
        url = server.create("restarted")
        servers.migrate(url)
        servers.make_logins(url)
        engine = connect(url, application="test")
        stage = Stage(engine, StoryClock())
        stage.register("v1")
        stage.register("v2", champion=False)
        trained(stage, RESULT)
        task = build(stage, url)
        restarted: list[bool] = []

        @event.listens_for(engine, "commit")
        def restart(_connection: Connection) -> None:
            if not restarted:  # everything is written, nothing is committed
                restarted.append(True)
                with servers.crashed(Path(folder)):
                    pass

        with pytest.raises(DBAPIError):
            task.run()
        assert (champion(stage), job(stage).state, audited(stage)) == ("v1", "trained", [])
        task.run()
        assert stage.scalar("SELECT count(*) FROM model_aliases") == 1
        assert (champion(stage), job(stage).state, audited(stage)) == ("v2", "promoted", [("promoted", "v2")])
        engine.dispose()


def test_drift_that_the_new_champion_was_trained_on_is_over_once_it_answers(
    stage: Stage, candidates: Candidates, database: str
) -> None:
    shifted = Traffic(image_shift=1.0)
    detect = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)

    def windows(count: int, version: str) -> None:
        for _ in range(count * HOP // SLOT):
            stage.slot(shifted, version)
            stage.clock.advance(SLOT)
            stage.clock.advance(GRACE)
            detect.run()
            stage.clock.advance(-GRACE)

    windows(8, "v1")
    firing = {row.alertname: row for row in stage.alerts() if row.state == "firing"}
    assert "EmbeddingDrift" in firing
    stage.register("v2", champion=False, like=shifted)
    trained(stage, RESULT)
    candidates.run()
    windows(12, "v2")
    after = {row.alert_id: row.state for row in stage.alerts()}
    assert after[firing["EmbeddingDrift"].alert_id] == "resolved"
    query = select(findings.c.verdict, findings.c.baseline_id, findings.c.model_version).where(
        findings.c.detector == "embedding_mmd", findings.c.modality == "image"
    )
    with stage.engine.connect() as connection:
        judged = connection.execute(query.order_by(findings.c.finding_id)).all()
        own = connection.scalar(select(baselines.c.baseline_id).where(baselines.c.model_version == "v2"))
    assert (judged[-1].verdict, judged[-1].baseline_id, judged[-1].model_version) == ("ok", own, "v2")
    assert judged[-1].baseline_id != judged[0].baseline_id

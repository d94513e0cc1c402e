"""Old days go, whole and nothing else; with an archive only once they were kept; a run that was stopped is finished."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import OperationalError

from migrations.schema.partitions import ensure_partitions, partition_name
from migrations.schema.prediction_log import dead_letters, labels, modality_log, prediction_log, request_ids
from migrations.schema.rollouts import rollouts, shadow_log
from migrations.schema.summaries import summaries
from monitor.archive.folder import Archive, Saved
from monitor.archive.saving import save
from monitor.errors import ArchiveError, RetentionError
from monitor.storage import partitions
from monitor.tasks import retention
from monitor.tasks.retention import Kept, Retention
from tests.support.commands import monitor_says
from tests.support.monitored import NORMAL, Stage, log_row, log_rows

DAYS = (33, 31, 30, 0)  # days ago that have rows; 30 are kept beside today
SUMMARY_DAYS = (402, 400, 0)


def ago(stage: Stage, days: int) -> date:
    return stage.clock.now().date() - timedelta(days=days)


@pytest.fixture
def aged(stage: Stage) -> Stage:
    """Two answers a day, one of them labelled, with everything that is written beside them."""
    stage.register("v1")
    now = stage.clock.now()
    with stage.engine.begin() as connection:
        ensure_partitions(connection, ago(stage, 33), 33)
        rollout = connection.scalar(
            insert(rollouts)
            .values(model="fusion", version="v1", champion="v1", stage="shadow", percent=10, step_since=now)
            .values(checked_until=now)
            .returning(rollouts.c.rollout_id)
        )
        for days in DAYS:
            at = now - timedelta(days=days)
            ids = [f"{days}-{n}" for n in range(2)]
            log_rows(connection, [log_row(name, at, "v1", "misleading", 0.9) for name in ids])
            connection.execute(
                insert(modality_log),
                [
                    {"request_id": name, "modality": "image", "logged_at": at, "status": "present"}
                    | {"digest": bytes(32), "key_id": "k", "quality": {"noise": 0.25, "brightness": 7.0}}
                    for name in ids
                ],
            )
            connection.execute(
                insert(labels)
                .values(request_id=ids[0], label="consistent", labelled_at=now, received_at=now)
                .values(source="user")
            )
            connection.execute(
                insert(shadow_log)
                .values(rollout_id=rollout, request_id=ids[0], logged_at=at, status="error")
                .values(champion_prediction="consistent", champion_confidence=1, champion_model_ms=1)
            )
            connection.execute(
                insert(dead_letters)
                .values(topic="t", partition=0, offset=days, error_code="c", error_detail="d")
                .values(recorded_at=at)
            )
    for days in SUMMARY_DAYS:
        stage.clock.advance(-days * 86_400)
        stage.slot(NORMAL)
        stage.clock.advance(days * 86_400)
    return stage


def task(stage: Stage, folder: Path | None = None) -> Retention:
    return Retention(stage.engine, Kept(30, 400), None if folder is None else Archive(folder), stage.clock)


def left(stage: Stage) -> dict[str, int]:
    tables = (request_ids, prediction_log, modality_log, shadow_log, dead_letters, labels, summaries)
    return {table.name: stage.scalar(f"SELECT count(*) FROM {table.name}") for table in tables}


def tables_of(stage: Stage, days: int) -> int:
    return int(stage.scalar(f"SELECT count(*) FROM pg_class WHERE relname ~ '_log_p{ago(stage, days):%Y%m%d}$'"))


ALL_LEFT = {
    "request_ids": 8,
    "prediction_log": 8,
    "modality_log": 8,
    "shadow_log": 4,
    "dead_letters": 4,
    "labels": 4,
    "summaries": 9,
}
KEPT_LEFT = {
    "request_ids": 4,
    "prediction_log": 4,
    "modality_log": 4,
    "shadow_log": 2,
    "dead_letters": 2,
    "labels": 4,
    "summaries": 6,
}


def test_a_dry_run_tells_and_a_run_archives_and_drops_days_that_are_past_their_time(
    aged: Stage, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", database)
    monkeypatch.setenv("FUSIONWATCH_ARCHIVE_FOLDER", str(tmp_path))
    with aged.engine.connect() as connection:
        query = select(prediction_log).where(prediction_log.c.request_id.like("33-%"))
        before = [dict(row) for row in connection.execute(query.order_by("request_id")).mappings()]
    told = monitor_says("retention", "--dry-run")
    for day in (33, 32, 31):
        assert told.count(str(ago(aged, day))) == 3, "three tables"
    assert str(ago(aged, 402)) in told
    assert f"nothing was changed; what goes is archived in {tmp_path} first" in told
    assert left(aged) == ALL_LEFT
    assert list(tmp_path.iterdir()) == []

    assert "gone; archived in" in monitor_says("retention")
    assert left(aged) == KEPT_LEFT
    assert [tables_of(aged, days) for days in (33, 32, 31, 30, 0)] == [0, 0, 0, 3, 3]
    assert monitor_says("retention").count("about") == 0, "nothing is left to do"

    archive, oldest = Archive(tmp_path), ago(aged, 33)
    log = archive.read("prediction_log", oldest, oldest)
    assert log is not None
    assert log.to_pylist() == before
    (modality, _) = archive.read("modality_log", oldest, oldest).to_pylist()  # type: ignore[union-attr]
    assert (modality["digest"], json.loads(modality["quality"])) == (bytes(32), {"noise": 0.25, "brightness": 7.0})
    judged = archive.read("labelled", oldest, oldest)
    assert judged is not None
    assert [(row["request_id"], row["prediction"], row["label"]) for row in judged.to_pylist()] == [
        ("33-0", "misleading", "consistent")
    ]
    kept = {dataset: [one.rows for one in archive.days(dataset, ago(aged, 999), ago(aged, 0))] for dataset in FILES}
    assert kept == FILES


FILES = {
    "prediction_log": [2, 0, 2],
    "modality_log": [2, 0, 2],
    "shadow_log": [1, 0, 1],
    "labelled": [1, 0, 1],
    "summaries": [3],
}


def test_zero_days_keep_everything(aged: Stage) -> None:
    Retention(aged.engine, Kept(None, None), None, aged.clock).run()
    assert left(aged) == ALL_LEFT


def test_a_run_that_was_stopped_anywhere_is_finished_by_the_next(
    aged: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOCK_TIMEOUT", "100ms")
    oldest = partition_name("modality_log", ago(aged, 33))
    with aged.engine.connect() as reader, reader.begin():  # a report that runs for longer than one waits
        reader.execute(text(f"SELECT count(*) FROM {oldest}"))
        with pytest.raises(OperationalError, match="lock timeout"):
            task(aged, tmp_path).run()
    states = [(each.name, each.state) for each in task(aged).plan().partitions]
    assert states[0] == (oldest, partitions.State.DETACHING)

    stopped(monkeypatch, tmp_path, aged)
    states = [(each.name, each.state) for each in task(aged).plan().partitions]
    assert states[0] == (oldest, partitions.State.DETACHED), "it had been archived, and not yet dropped"
    task(aged, tmp_path).run()
    assert left(aged) == KEPT_LEFT
    assert Archive(tmp_path).days("modality_log", ago(aged, 33), ago(aged, 33))[0].rows == 2


def stopped(monkeypatch: pytest.MonkeyPatch, folder: Path, stage: Stage) -> None:
    """A run that dies at its first drop."""

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(partitions, "drop", dies)
        with pytest.raises(KeyboardInterrupt):
            task(stage, folder).run()


def test_nothing_is_dropped_that_could_not_be_archived(aged: Stage, tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("no folder")
    with pytest.raises(ArchiveError, match="cannot be written"):
        task(aged, tmp_path / "archive").run()
    assert sum(tables_of(aged, days) for days in (33, 32, 31)) == 9
    assert left(aged)["request_ids"] == 8, "ids go after their rows"
    task(aged, tmp_path / "other").run()
    assert left(aged) == KEPT_LEFT


def test_summaries_that_come_while_their_day_is_archived_are_not_deleted_unseen(
    aged: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = save

    def slow(*args: Any) -> Saved:
        saved = whole(*args)
        if saved.path.parent.name == "summaries":
            aged.clock.advance(-402 * 86_400)
            aged.slot(NORMAL)
            aged.clock.advance(402 * 86_400)
        return saved

    with monkeypatch.context() as patch:
        patch.setattr("monitor.tasks.retention.save", slow)
        with pytest.raises(ArchiveError, match=r"3 summaries of .* came while it was archived: again later"):
            task(aged, tmp_path).run()
    assert left(aged)["summaries"] == 12
    task(aged, tmp_path).run()
    assert Archive(tmp_path).days("summaries", ago(aged, 402), ago(aged, 402))[0].rows == 6


def test_two_runs_take_turns(aged: Stage) -> None:
    with task(aged)._turn(), pytest.raises(RetentionError, match="another run of retention is under way"):
        task(aged).run()
    task(aged).run()
    assert left(aged) == KEPT_LEFT

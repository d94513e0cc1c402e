"""Labelled rows as the monitor reads them: joined once, bounded, weighted; and what the detectors make of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from migrations.schema import bins
from migrations.schema.monitoring import baselines
from migrations.schema.partitions import ensure_partitions
from migrations.schema.prediction_log import labels, prediction_log
from migrations.schema.summaries import summaries
from monitor import wiring
from monitor.domain.window import Labelled
from monitor.storage import labels as storage
from monitor.telemetry import Metrics
from tests.support.monitored import CLASSES, GRACE, HOP, NORMAL, SLOT, Stage, log_row, log_rows, settings


def read(stage: Stage, limit: int = 1000) -> Labelled:
    end = stage.clock.now() + timedelta(seconds=1)
    with stage.engine.connect() as connection:
        return storage.labelled(connection, "v1", start=end - timedelta(hours=1), end=end, limit=limit)


def change(stage: Stage, number: int, **values: Any) -> None:
    """Change the label of answer r<number>."""
    with stage.engine.begin() as connection:
        connection.execute(update(labels).where(labels.c.request_id == f"r{number}").values(**values))


def count_answers(
    stage: Stage,
    rows: int,
    *,
    before: float = 0.0,
    version: str = "v1",
    modality: str = "fused",
    confidence: float | None = None,
) -> None:
    """A slot that says that so many requests were answered, some seconds before now, and how sure they were."""
    one_hot = np.eye(50)[np.full(rows, int(50 * (confidence or 0)))]
    with stage.engine.begin() as connection:
        connection.execute(
            insert(summaries).values(
                slot_start=stage.clock.now() - timedelta(seconds=before),
                model_version=version,
                modality=modality,
                topic="fusion.requests",
                partition=0,
                first_offset=int(before),
                slot_seconds=SLOT,
                worker_id="w",
                encoder_fingerprint="e1",
                counts={"rows": rows, "fused": rows},
                bins=bins.dump(bins.EMPTY if confidence is None else bins.from_rows({"confidence": one_hot}, 8)),
                updated_at=stage.clock.now(),
            )
        )


def test_every_field_of_a_label_and_its_answer_arrives(stage: Stage) -> None:
    stage.register("v1")
    stage.label(3, right=1.0)
    change(stage, 0, source="human_review", verdict="false_positive", sampling_probability=0.25)
    change(stage, 1, label="of another world")
    found = read(stage)
    assert found.source is not None
    assert found.verdict is not None
    assert found.sampling is not None
    assert found.probabilities is not None
    assert found.label is not None
    assert found.predicted is not None
    assert found.source.tolist() == ["human_review", "ground_truth", "ground_truth"]
    assert found.verdict.tolist() == ["false_positive", "", ""]
    assert found.sampling[0] == 0.25
    assert np.isnan(found.sampling[1:]).all()
    assert found.probabilities == pytest.approx(np.tile([0.97, 0.02, 0.01], (3, 1)))
    assert found.label[1] == "of another world"
    assert found.correct.tolist() == [True, False, True]
    assert set(found.predicted.tolist()) <= set(CLASSES)


def test_three_queries_however_many_labels_and_never_more_rows_than_the_limit(stage: Stage) -> None:
    stage.register("v1")
    for _ in range(4):
        stage.label(50, right=0.9)
        stage.clock.advance(1)
    statements: list[str] = []
    event.listen(stage.engine, "before_cursor_execute", lambda *each: statements.append(each[2]))
    found = read(stage, limit=120)
    assert len(found.correct) == 120
    assert len([each for each in statements if each.lstrip().upper().startswith("SELECT")]) == 3


def test_of_a_long_log_only_the_labelled_answers_are_read_whichever_came_first(stage: Stage) -> None:
    stage.register("v1")
    now, days, each = stage.clock.now(), 6, 400
    early = [f"{day}-{n}" for day in range(days) for n in (0, 1)]
    with stage.engine.begin() as connection:
        ensure_partitions(connection, (now - timedelta(days=days)).date(), days)
        connection.execute(insert(labels), [said(name, now) for name in early])
        for day in range(days):
            at = now - timedelta(days=day)
            log_rows(connection, [log_row(f"{day}-{n}", at, "v1", "misleading", 0.9) for n in range(each)])
        connection.execute(insert(labels), [said(f"{day}-{n}", now) for day in range(days) for n in (2, 3, 4)])
        connection.execute(text("ANALYZE"))
    assert len(read(stage).correct) == 5 * days
    newest = storage.judged("v1", labels.c.received_at == now, order=labels.c.received_at, limit=1000)
    with stage.engine.connect() as connection:
        compiled = newest.compile(connection, compile_kwargs={"literal_binds": True})
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}").scalar_one()
    assert rows_of_the_log(plan[0]["Plan"]) == 5 * days


def said(request_id: str, at: datetime) -> dict[str, Any]:
    """A label received at a time."""
    return {"request_id": request_id, "label": "misleading", "labelled_at": at, "received_at": at, "source": "user"}


def rows_of_the_log(node: dict[str, Any]) -> int:
    """How many rows of the log a plan read, those that it threw away included."""
    of_log = node.get("Relation Name", "").startswith("prediction_log")
    read = node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) if of_log else 0
    return round(read) + sum(map(rows_of_the_log, node.get("Plans", [])))


def test_answers_are_counted_over_the_time_of_the_labels_taken(stage: Stage) -> None:
    stage.register("v1")
    stage.label(50, right=0.9)
    count_answers(stage, 700)
    stage.clock.advance(60)
    stage.label(50, right=0.9)
    count_answers(stage, 300)
    count_answers(stage, 5, modality="image")
    count_answers(stage, 9, version="v0", before=1)
    assert read(stage).answered == 1000
    assert read(stage, limit=40).answered == 300  # the older labels were cut off, and their time with them


def test_without_labels_there_is_nothing_to_judge_but_answers_are_counted(stage: Stage) -> None:
    stage.register("v1")
    count_answers(stage, 400)
    found = read(stage)
    assert (len(found.correct), found.probabilities, found.answered) == (0, None, 400)


def test_confidences_of_all_answers_come_from_a_bounded_number_of_summaries(stage: Stage, monkeypatch: Any) -> None:
    stage.register("v1")
    stage.label(2, right=1.0)
    count_answers(stage, 7)  # without confidences
    assert read(stage).answers is None
    for number in range(1, 8):
        count_answers(stage, 16, before=number, confidence=0.01 + number / 10)
    count_answers(stage, 16, before=9, version="v0", confidence=0.99)
    everything = read(stage).answers
    assert everything is not None
    assert everything.sum() == 7 * 16
    assert np.flatnonzero(everything).tolist() == [5, 10, 15, 20, 25, 30, 35]
    monkeypatch.setattr(storage, "MOST_SUMMARIES", 3)
    some = read(stage).answers
    assert some is not None
    assert 0 < np.count_nonzero(some) <= 3


def test_a_summary_that_cannot_be_read_takes_no_labels_away(stage: Stage) -> None:
    stage.register("v1")
    stage.label(2, right=1.0)
    count_answers(stage, 16, confidence=0.5)
    with stage.engine.begin() as connection:
        connection.execute(update(summaries).values(bins=b"junk"))
    found = read(stage)
    assert (len(found.correct), found.answers) == (2, None)


def test_probabilities_of_many_classes_stay_in_the_database(stage: Stage) -> None:
    stage.register("v1")
    stage.label(2, right=1.0)
    wide = [1 / (storage.MOST_CLASSES + 1)] * (storage.MOST_CLASSES + 1)
    with stage.engine.begin() as connection:
        connection.execute(update(prediction_log).values(probabilities=wide))
    assert read(stage).probabilities is None


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.5])
def test_the_database_keeps_no_impossible_probability(stage: Stage, wrong: float) -> None:
    stage.register("v1")
    stage.label(1, right=1.0)
    with pytest.raises(IntegrityError, match="sampling_probability"):
        change(stage, 0, sampling_probability=wrong)


def test_the_monitor_judges_labels_by_all_that_is_known_of_them(stage: Stage, database: str) -> None:
    """A queue that labels wrong answers ten times as often: weights undo it, and no alert comes of it."""
    stage.register("v1", accuracy=0.9)
    facts = {
        "class_prior": [1 / 3] * 3,
        "class_accuracy": [0.9] * 3,
        "confidence": [0] * 48 + [1000, 0],
        "confidence_correct": [0] * 48 + [900, 0],
    }
    with stage.engine.begin() as connection:
        known: dict[str, Any] = connection.execute(select(baselines.c.facts)).scalar_one()
        connection.execute(update(baselines).values(facts={**known, **facts}))
    for _ in range(HOP // SLOT):
        stage.slot(NORMAL)
        count_answers(stage, 2000, before=1)
        stage.clock.advance(SLOT)
    stage.label(600, right=0.5)  # of every answer that is wrong ten times as many labels as of one that is right
    wrong = prediction_log.c.prediction != labels.c.label
    with stage.engine.begin() as connection:
        connection.execute(
            update(labels)
            .where(labels.c.request_id == prediction_log.c.request_id, wrong)
            .values(sampling_probability=1.0)
        )
        connection.execute(
            update(labels).where(labels.c.sampling_probability.is_(None)).values(sampling_probability=0.1)
        )
    stage.clock.advance(HOP + GRACE)
    wiring.detect(settings(database), stage.engine, Metrics(), stage.clock).run()
    assert stage.verdicts("accuracy", "fused")[-1] == "ok"
    value = stage.scalar("SELECT value FROM findings WHERE detector = 'accuracy' ORDER BY window_end DESC LIMIT 1")
    assert value == pytest.approx(10 / 11, abs=0.02)
    last = {
        name: stage.verdicts(name, "fused")[-1]
        for name in ("label_prior", "false_positives", "review_rate", "calibration")
    }
    assert last["label_prior"] == last["false_positives"] == last["review_rate"] == "ok"
    assert {row.alertname for row in stage.alerts()} <= {"CalibrationDrift"}

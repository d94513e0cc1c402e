"""Labels that are short are asked for: one round, one ticket, entries closed by their labels, weights that undo it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, text

from migrations.schema.prediction_log import labels, prediction_log
from monitor import loop_wiring
from monitor.detectors._sampling import hajek, sample
from monitor.storage import labels as label_storage
from monitor.tasks import labelling
from monitor.tasks.policy import Policy
from monitor.telemetry import Metrics
from tests.support.monitored import CLASSES, Stage, log_row, log_rows, settings

LIMITS = {"retrain_min_labels": 120, "retrain_min_labels_per_class": 10, "label_queue_entries": 100}


def build(stage: Stage, database: str, **changes: Any) -> Policy:
    given = {**LIMITS, "label_window_seconds": 3600, **changes}
    return loop_wiring.policy(settings(database, **given), stage.engine, Metrics(), stage.clock)


def answer(stage: Stage, n: int) -> dict[str, str]:
    """Log n answers a moment ago, of which odd ones are mostly wrong; the truth of each."""
    truth, rows = {}, []
    for _ in range(n):
        stage.offset += 1
        request_id, odd = f"r{stage.offset}", stage.rng.random() < 0.06
        said = CLASSES[stage.rng.integers(0, 3)]
        right = stage.rng.random() < (0.3 if odd else 0.95)
        truth[request_id] = said if right else CLASSES[(CLASSES.index(said) + 1) % 3]
        at = stage.clock.now() - timedelta(seconds=1)
        confidence = float(stage.rng.uniform(0.4, 1))
        rows.append(log_row(request_id, at, "v1", said, confidence) | {"agreement": not odd, "source": "camera 1"})
    with stage.engine.begin() as connection:
        log_rows(connection, rows)
    return truth


def label(stage: Stage, ids: Sequence[str], truth: dict[str, str]) -> None:
    now = stage.clock.now()
    common = {"labelled_at": now, "received_at": now, "source": "human_review"}
    with stage.engine.begin() as connection:
        connection.execute(insert(labels), [{"request_id": each, "label": truth[each], **common} for each in ids])


def queue(stage: Stage) -> list[Any]:
    """Every entry, in the order in which they are to be labelled."""
    with stage.engine.connect() as connection:
        return list(connection.execute(text("SELECT * FROM label_queue ORDER BY round_id, place")))


def tickets(stage: Stage) -> list[str]:
    return [row.state for row in stage.alerts() if row.alertname == "LabelsWanted"]


def test_labels_that_are_short_are_asked_for_until_they_came(stage: Stage, database: str) -> None:
    stage.register("v1")
    policy = build(stage, database)
    truth = answer(stage, 900)
    policy.run()
    assert queue(stage) == [], "nothing drifts"
    stage.drift()
    threads = [threading.Thread(target=build(stage, database).run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = queue(stage)
    assert len(first) == 100, "as many as may wait at a time"
    assert stage.scalar("SELECT count(*) FROM label_rounds") == 1, "of three monitors one draws"
    assert stage.scalar("SELECT reasons ->> 1 FROM label_rounds") == "0 new labels, 120 needed"
    assert tickets(stage) == ["firing"]
    assert "100 answers wait for a label" in stage.alerts()[0].annotations["summary"]

    asked = [row.request_id for row in first]
    label(stage, asked[:60], truth)
    policy.run()
    assert (tickets(stage), len(queue(stage))) == (["firing"], 100)
    label(stage, asked[60:], truth)
    label(stage, sorted(set(truth) - set(asked))[:20], truth)  # nobody asked for these
    stage.clock.advance(1)
    policy.run()
    assert tickets(stage) == ["resolved"]

    found = read_labels(stage)
    known = {row.request_id: row.probability for row in first}
    assert found.sampling is not None
    assert sorted(found.sampling[np.isfinite(found.sampling)]) == pytest.approx(sorted(known.values()))
    said = {row.request_id: row.prediction for row in logged(stage)}
    accuracy = np.mean([said[each] == truth[each] for each in truth])
    chosen = sample(found)
    weighted = hajek(found.correct[chosen.rows].astype(float), chosen.weight)
    low, high = weighted.interval(z=5.0)  # the draw is another one each day
    assert chosen.weighted
    assert low < accuracy < high
    odd = stage.scalar("SELECT strata -> 'disagreement' FROM label_rounds")
    assert odd["drawn"] / odd["rows"] > 2 * 100 / 900, "odd answers are asked for more often"


def read_labels(stage: Stage) -> Any:
    end = stage.clock.now() + timedelta(seconds=1)
    with stage.engine.connect() as connection:
        return label_storage.labelled(connection, "v1", start=end - timedelta(hours=1), end=end, limit=1000)


def logged(stage: Stage) -> list[Any]:
    with stage.engine.connect() as connection:
        return list(connection.execute(prediction_log.select()))


def test_a_second_round_is_of_later_answers_and_what_expires_is_let_go(stage: Stage, database: str) -> None:
    stage.register("v1")
    policy = build(stage, database, label_queue_seconds=600)
    stage.drift()
    before = answer(stage, 300)
    policy.run()
    assert len(queue(stage)) == 100
    stage.clock.advance(601)
    policy.run()
    assert tickets(stage) == ["resolved"], "they expired"
    assert len(queue(stage)) == 100, "too few answers came since"
    later = answer(stage, 150)
    stage.clock.advance(1)
    policy.run()
    entries = queue(stage)
    assert {row.request_id for row in entries[:100]} <= set(before)
    assert {row.request_id for row in entries[100:]} <= set(later)
    assert len(entries) == 200
    assert tickets(stage) == ["resolved", "firing"]
    stage.clock.advance(91 * 86400)
    policy.run()
    assert queue(stage) == [], "old rounds are forgotten"


def test_few_answers_a_day_are_asked_for_too_and_more_than_are_read_make_a_shorter_frame(
    stage: Stage, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.register("v1")
    stage.drift()
    answer(stage, 19)
    policy = build(stage, database)
    policy.run()
    assert queue(stage) == []
    stage.clock.advance(10)
    lately = answer(stage, 30)
    monkeypatch.setattr(labelling, "MOST_CANDIDATES", 40)
    policy.run()
    assert {row.request_id for row in queue(stage)} == set(lately), "of the moment before not all could be read"
    assert {row.probability for row in queue(stage)} == {1.0}


def test_nobody_is_asked_where_the_setting_says_so(stage: Stage, database: str) -> None:
    stage.register("v1")
    stage.drift()
    answer(stage, 300)
    build(stage, database, label_queue_entries=0).run()
    assert (queue(stage), tickets(stage)) == ([], [])

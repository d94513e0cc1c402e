"""Baselines at a person's request: made of healthy traffic or refused with reasons, pinned, compared, deleted."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from migrations.schema.monitoring import audit_log, baseline_summaries, baselines, findings
from migrations.schema.prediction_log import labels
from migrations.schema.summaries import summaries
from monitor import wiring
from monitor.domain.window import Window
from monitor.errors import BaselineError
from monitor.storage import baselines as storage
from monitor.storage.views.work import champion
from monitor.tasks.baselines import Baselines
from monitor.telemetry import Metrics
from tests.support.monitored import GRACE, HOP, NORMAL, SLOT, Stage, Traffic, settings

WHO: dict[str, Any] = {"actor": "alice", "reason": "a quiet minute"}


@pytest.fixture
def people(stage: Stage, database: str) -> Baselines:
    stage.register("v1")
    return wiring.baselines(settings(database), stage.engine, stage.clock)


def traffic(stage: Stage, slots: int, kind: Traffic = NORMAL) -> Window:
    start = stage.clock.now()
    for _ in range(slots):
        stage.slot(kind)
        stage.clock.advance(SLOT)
    return Window(start, stage.clock.now())


def numbers(people: Baselines) -> dict[int, tuple[str, bool, bool]]:
    return {each.number: (each.origin, each.pinned, each.used) for each in people.listed()}


def audits(stage: Stage) -> list[tuple[str, str, dict[str, Any]]]:
    with stage.engine.connect() as connection:
        rows = connection.execute(select(audit_log).order_by(audit_log.c.audit_id)).all()
    return [(row.actor, row.action, row.details) for row in rows]


def test_a_healthy_period_becomes_the_baseline_that_is_compared_with(stage: Stage, people: Baselines) -> None:
    window = traffic(stage, 12)
    made = people.make(window, **WHO, pin=True)
    assert (made.number, made.overruled, made.hours) == (2, (), 0)
    assert made.rows == {"fused": 2400, "image": 2400, "text": 2400}
    assert numbers(people) == {1: ("checkpoint", False, False), 2: ("period", True, True)}
    assert [(who, what) for who, what, _ in audits(stage)] == [("alice", "baseline_made"), ("alice", "baseline_pinned")]
    with stage.engine.connect() as connection:
        reference = storage.of_version(connection, "v1")
    assert reference is not None
    assert reference.names["image"] == ("noise", "brightness")
    assert reference.accuracy is None  # no labels came in the period
    assert len(reference.summaries["image"].bins.count) == 12 * 25
    people.unpin(**WHO)
    assert numbers(people)[1] == ("checkpoint", False, True)
    assert audits(stage)[-1][1:] == ("baseline_unpinned", {"reason": "a quiet minute"})


def test_labels_of_the_period_give_its_accuracy_or_a_reason(stage: Stage, people: Baselines) -> None:
    start = stage.clock.now()
    stage.label(400, right=0.8)
    window = traffic(stage, 8)
    assert window.start == start
    made = people.make(window, **WHO)
    facts = {each.number: each.facts for each in people.listed()}[made.number]
    assert facts["labelled"] == 400
    assert facts["accuracy"] == pytest.approx(0.8, abs=0.07)
    assert sum(facts["class_prior"]) == pytest.approx(1)
    assert sum(facts["confidence"]) == 400
    assert sum(facts["confidence_correct"]) == round(400 * facts["accuracy"])
    with stage.engine.begin() as connection:
        connection.execute(update(labels).where(labels.c.request_id < "r2").values(sampling_probability=0.1))
    again = people.make(window, **WHO)
    assert "unequal chances" in again.labels


def test_what_speaks_against_a_period_refuses_it_and_is_kept_where_overruled(stage: Stage, people: Baselines) -> None:
    first = traffic(stage, 6)
    stage.clock.advance(4 * SLOT)  # nothing was written
    second = traffic(stage, 6, Traffic(image_shift=1.0))
    window = Window(first.start, second.end)
    with pytest.raises(BaselineError, match=r"4 of 16 slots are missing.*second half differs.*embedding_mmd image"):
        people.make(window, **WHO)
    assert len(numbers(people)) == 1
    assert audits(stage) == []
    made = people.make(window, **WHO, force=True)
    assert len(made.overruled) == 2
    assert audits(stage)[-1][2]["overruled"] == list(made.overruled)


def test_few_rows_and_fired_alerts_speak_against_a_period(stage: Stage, people: Baselines, database: str) -> None:
    detect = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)
    start = stage.clock.now()
    for _ in range(12):
        traffic(stage, HOP // SLOT, Traffic(image_gone=True))
        stage.clock.advance(GRACE)
        detect.run()
        stage.clock.advance(-GRACE)
    fired = sorted({row.alertname for row in stage.alerts() if row.firing_since})
    assert fired
    with pytest.raises(BaselineError, match=f"alerts fired within it: {', '.join(fired)}"):
        people.make(Window(start, stage.clock.now()), **WHO)
    with pytest.raises(BaselineError, match="400 rows are too few"):
        people.make(Window(start, start + timedelta(seconds=2 * SLOT)), **WHO)


def test_a_period_must_be_over_and_hold_rows_of_the_versions_own_encoder(stage: Stage, people: Baselines) -> None:
    window = traffic(stage, 4)
    with pytest.raises(BaselineError, match="must be over"):
        people.make(Window(window.start, window.end + timedelta(seconds=1)), **WHO)
    before = Window(window.start - timedelta(hours=1), window.start)
    with pytest.raises(BaselineError, match="no rows"):
        people.make(before, **WHO, force=True)
    with stage.engine.begin() as connection:
        connection.execute(update(summaries).where(summaries.c.modality == "image").values(encoder_fingerprint="e2"))
    with pytest.raises(BaselineError, match=r"image bins were made by encoder e2.*first baseline by e1"):
        people.make(window, **WHO, force=True)


def test_two_baselines_are_compared_by_the_detectors(stage: Stage, people: Baselines) -> None:
    people.make(traffic(stage, 8), **WHO)
    people.make(traffic(stage, 8, Traffic(image_shift=1.0)), **WHO)
    same = {(each.detector, each.modality): str(each.verdict) for each in people.compare(1, 2)}
    other = {(each.detector, each.modality): str(each.verdict) for each in people.compare(2, 3)}
    assert set(same.values()) == {"ok"}
    assert other["embedding_mmd", "image"] == other["quality", "image"] == "drift"
    assert other["embedding_mmd", "text"] == "ok"
    with pytest.raises(BaselineError, match="v1 has no baseline 4"):
        people.compare(1, 4)


def test_baselines_of_two_encoders_are_not_compared(stage: Stage, people: Baselines) -> None:
    people.make(traffic(stage, 8), **WHO)
    with stage.engine.begin() as connection:
        second = select(baselines.c.baseline_id).where(baselines.c.number == 2)
        changed = baseline_summaries.c.baseline_id == second.scalar_subquery()
        connection.execute(update(baseline_summaries).where(changed).values(encoder_fingerprint="e2"))
    with pytest.raises(BaselineError, match="made by encoder e1, those of the other by e2"):
        people.compare(1, 2)


def test_pins_at_the_same_time_take_turns_and_one_holds(stage: Stage, people: Baselines) -> None:
    window = traffic(stage, 8)
    for _ in range(3):
        people.make(window, **WHO)
    barrier = threading.Barrier(4)
    failed: list[SQLAlchemyError] = []

    def pin(number: int) -> None:
        barrier.wait()
        try:
            people.pin(number, **WHO)
        except SQLAlchemyError as error:
            failed.append(error)

    threads = [threading.Thread(target=pin, args=(number,)) for number in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failed == []
    pinned = [number for number, (_, pinned, used) in numbers(people).items() if pinned and used]
    told = [details for _, action, details in audits(stage) if action == "baseline_pinned"]
    assert len(pinned) == 1
    assert len(told) == 4
    # each pin says what it replaced: a chain that ends with the one that holds
    assert {1, 2, 3, 4} - {each["pinned_before"] for each in told} == set(pinned)


def test_the_baseline_in_use_and_the_only_one_stay(stage: Stage, people: Baselines) -> None:
    with pytest.raises(BaselineError, match="only one"):
        people.drop(1, **WHO)
    people.make(traffic(stage, 8), **WHO, pin=True)
    with pytest.raises(BaselineError, match="is compared with baseline 2"):
        people.drop(2, **WHO)
    people.drop(1, **WHO)
    assert list(numbers(people)) == [2]
    with pytest.raises(BaselineError, match="has no baseline 1"):
        people.pin(1, **WHO)
    assert audits(stage)[-1][1] == "baseline_deleted"


def test_the_number_of_a_deleted_baseline_is_not_given_again(stage: Stage, people: Baselines) -> None:
    window = traffic(stage, 8)
    assert [people.make(window, **WHO).number for _ in range(2)] == [2, 3]
    people.drop(3, **WHO)
    people.drop(2, **WHO)
    assert people.make(window, **WHO).number == 4
    assert list(numbers(people)) == [1, 4]


def test_the_api_shows_baselines_and_compares_them(stage: Stage, people: Baselines, database: str) -> None:
    window = traffic(stage, 8)
    people.make(window, **WHO, pin=True)
    client = TestClient(wiring.api(settings(database), stage.engine), raise_server_exceptions=False)
    second, first = client.get("/v1/baselines").json()["items"]
    assert (first["number"], first["used"], second["number"], second["used"]) == (1, False, 2, True)
    assert datetime.fromisoformat(second["period"]["start"]) == window.start
    answering = client.get("/v1/overview").json()["champion"]
    assert (answering["baseline_number"], answering["baseline_origin"], answering["baseline_pinned"]) == (
        2,
        "period",
        True,
    )
    assert answering["baseline_period"] == second["period"]
    assert (answering["baseline_hours"], answering["baseline_thresholds_learnt"]) == (0, False)
    assert "Baseline 2 (pinned): made of traffic" in client.get("/").text
    path = f"/v1/baselines/{first['baseline_id']}/compare/{second['baseline_id']}"
    assert {each["verdict"] for each in client.get(path).json()} == {"ok"}
    assert client.get(f"/v1/baselines/{first['baseline_id']}/compare/999").status_code == 404
    with stage.engine.begin() as connection:
        of_first = baseline_summaries.c.baseline_id == first["baseline_id"]
        connection.execute(update(baseline_summaries).where(of_first).values(encoder_fingerprint="e0"))
    refused = client.get(path)
    assert refused.status_code == 409
    assert "made by encoder e0, those of the other by e1" in refused.json()["detail"]


def test_thresholds_are_learnt_once_from_the_baseline_in_use(stage: Stage, people: Baselines, database: str) -> None:
    people.make(traffic(stage, 60), **WHO, pin=True)  # ten windows
    detect = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)
    learnt = []
    for _ in range(5):
        traffic(stage, HOP // SLOT)
        stage.clock.advance(GRACE)
        detect.run()
        stage.clock.advance(-GRACE)
        learnt.append({each.number: each.thresholds for each in people.listed()})
    assert learnt[0] == {1: {}, 2: {}}
    assert learnt[-1][2]["rows"] == 1200
    assert learnt[-1][2]["effects"]["embedding_mmd"].keys() == {"fused", "image", "text"}
    assert learnt[-1][1] == {}
    query = select(findings.c.details, findings.c.threshold).where(
        findings.c.detector == "embedding_mmd", findings.c.modality == "image"
    )
    with stage.engine.connect() as connection:
        rows = connection.execute(query.order_by(findings.c.window_end, findings.c.revision)).all()
    assert rows[0].details["threshold_from"] == "default"
    assert rows[-1].details["threshold_from"] == "baseline"
    assert rows[-1].threshold == learnt[-1][2]["effects"]["embedding_mmd"]["image"]


def test_a_week_is_kept_by_hour_of_day_and_read_for_the_hour_of_a_window(stage: Stage, people: Baselines) -> None:
    start = stage.clock.now()
    for _ in range(7 * 24):
        stage.slot(Traffic(image_shift=0.8) if stage.clock.now().hour < 6 else NORMAL)
        stage.clock.advance(3600)
    made = people.make(Window(start, stage.clock.now()), **WHO, pin=True, force=True)  # most slots are missing
    assert made.hours == 24
    means = {}
    with stage.engine.connect() as connection:
        for hour in (None, 3, 12):
            found = storage.of_version(connection, "v1", hour)
            assert found is not None
            assert found.season.get("image") == (None if hour is None else f"hour {hour}")
            image = found.summaries["image"].bins
            means[hour] = image.total("features").mean() / image.rows
    assert means[3] == pytest.approx(0.8, abs=0.05)
    assert means[12] == pytest.approx(0.0, abs=0.05)
    assert means[None] == pytest.approx(0.2, abs=0.05)
    with stage.engine.connect() as connection:
        shown = champion(connection, "fusion")
    assert shown is not None
    assert shown.baseline_hours == 24

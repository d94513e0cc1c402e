"""Observations of a model served elsewhere, on a real broker and a real database: each ends as it should."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, create_engine, select

from demo import servers
from inference.hashing import Hasher
from inference.observed_registry import FAMILY
from migrations.schema import bins as schema_bins
from migrations.schema import totals as schema_totals
from migrations.schema.monitoring import audit_log, model_aliases, model_versions
from migrations.schema.prediction_log import (
    dead_letters,
    modality_log,
    prediction_log,
)
from migrations.schema.summaries import summaries
from tests.support.observing import (
    PRESENT,
    SECONDS,
    Observer,
    logged,
    observation,
    observing,
    rows,
)
from tests.support.worker import producer, read_all, wait_until

Send = Callable[..., None]


@pytest.fixture(scope="module")
def engine(postgres_server: servers.Database) -> Iterator[Engine]:
    engine = create_engine(postgres_server.create("observe_tests", template="template"))
    yield engine
    engine.dispose()
    postgres_server.drop("observe_tests")


def url(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def observer(engine: Engine, broker: str) -> Iterator[Observer]:
    observer = Observer("observe", url(engine), broker)
    with observing(observer):
        yield observer


@pytest.fixture(scope="module")
def send(broker: str) -> Iterator[Send]:
    with producer(broker) as send:
        yield send


def test_an_observation_is_logged_summarised_and_its_version_registered(
    observer: Observer, send: Send, engine: Engine
) -> None:
    digest = Hasher("theirs", b"t" * 32).digest("a caption").hex()
    parts = {
        "image": {"status": "corrupt", "reason": "truncated"},
        "text": {**PRESENT, "digest": digest, "key_id": "theirs", "quality": {"tokens": 7}, "embedding": [0.1, 0.2]},
    }
    send(
        observer.topics["observations"],
        observation("good", modalities=parts, correlation_id="c1", source="camera-1", latency_ms={"total": 12.5}),
    )
    row = logged(engine, "good")
    assert (row.status, row.route, row.degraded, row.quarantine) == ("ok", "fallback:text", True, None)
    assert (row.prediction, row.confidence, row.probabilities) == ("yes", 0.75, [0.25, 0.75])
    assert (row.correlation_id, row.source, row.total_ms) == ("c1", "camera-1", 12.5)
    assert (row.topic, row.model_version) == (observer.topics["observations"], "2026-02")
    image, text = rows(engine, select(modality_log).order_by(modality_log.c.modality))
    assert (image.status, image.reason, image.digest, image.key_id) == ("corrupt", "truncated", None, None)
    assert (text.status, bytes(text.digest).hex(), text.key_id, text.quality) == (
        "present",
        digest,
        "theirs",
        {"tokens": 7.0},
    )
    (version,) = rows(engine, select(model_versions))
    assert (version.version, version.model, version.family) == ("2026-02", "fusion", FAMILY)
    assert (version.class_names, version.modalities) == (["no", "yes"], ["image", "text"])
    assert set(version.fingerprints) == {"image", "text", "fused"}
    assert len(set(version.fingerprints.values())) == 3
    assert rows(engine, select(model_aliases.c.alias, model_aliases.c.version)) == [("champion", "2026-02")]
    assert ("adopt_champion", "model:fusion") in rows(engine, select(audit_log.c.action, audit_log.c.subject))
    counts = {s.modality: s.counts for s in rows(engine, select(summaries))}
    assert counts == {
        "image": {"corrupt": 1},
        "text": {"present": 1},
        "fused": {"rows": 1, "fallback:text": 1},
    }
    send(observer.topics["observations"], observation("whole", agreement=True))
    logged(engine, "whole")
    stored = rows(engine, select(summaries.c.bins).where(summaries.c.modality == "fused"))
    (bins,) = [bins for bins in (schema_bins.load(each.bins) for each in stored) if bins.rows]
    assert bins.total("classes").tolist() == [0, 1]
    assert set(bins.columns) == {"classes", "confidence", "agreement", "lag", "contribution"}
    of_fused = rows(engine, select(summaries.c.totals).where(summaries.c.modality == "fused"))
    totals = schema_totals.merge(each.totals for each in of_fused)
    assert (sum(totals["latency.total"]), totals["classes.fused"]) == (2, [0, 1])


def test_bad_observations_are_dead_lettered_with_their_reasons(observer: Observer, send: Send, engine: Engine) -> None:
    send(observer.topics["observations"], observation("before-bad"))
    logged(engine, "before-bad")
    bad = {
        "not_decodable": b"not json",
        "unknown_schema_version": observation("x", schema_version=9),
        "request_id_missing": observation(None),
        "field_unknown": observation("x", modalities={"image": {**PRESENT, "data": "aGVsbG8="}}),
        "probabilities_invalid": observation("x", probabilities={"no": 0.9, "yes": 0.9}),
        "classes_differ": observation("x", probabilities={"maybe": 1.0}),
        "unknown_modality": observation("x", modalities={"smell": PRESENT}),
        "model_version_unknown": observation("x", model_version="never-answered", probabilities=None),
    }
    for message in bad.values():
        send(observer.topics["observations"], message, headers=[("traceparent", b"00-1-2-01")])
    send(observer.topics["observations"], observation("after-bad"))
    logged(engine, "after-bad")
    letters = read_all(observer.broker, observer.topics["dead_letters"], lambda m: len(m) >= len(bad), SECONDS)
    headers = [dict(letter.headers) for letter in letters]
    assert sorted(each["error-code"].decode() for each in headers) == sorted(bad)
    for each, letter in zip(headers, letters, strict=True):
        assert each["traceparent"] == b"00-1-2-01"
        assert each["origin-topic"].decode() == observer.topics["observations"]
        original = bad[each["error-code"].decode()]
        assert letter.value == (json.dumps(original).encode() if isinstance(original, dict) else original)
    codes = rows(engine, select(dead_letters.c.error_code).order_by(dead_letters.c.error_code))
    assert [code for (code,) in codes] == sorted(bad)
    assert rows(engine, select(prediction_log).where(prediction_log.c.request_id == "x")) == []
    assert [version for (version,) in rows(engine, select(model_versions.c.version))] == ["2026-02"]


def test_an_unusable_answer_an_old_clock_and_a_repeated_id(observer: Observer, send: Send, engine: Engine) -> None:
    topic = observer.topics["observations"]
    send(topic, observation("failed", probabilities=None, error_code="model_not_finite"))
    yesterday = datetime.now(UTC) - timedelta(days=2)
    send(topic, observation("old", produced_at=yesterday.isoformat()))
    for index in range(10):
        send(topic, observation("twice"), partition=index % 2)
    failed, old = logged(engine, "failed"), logged(engine, "old")
    assert (failed.status, failed.error_code, failed.prediction) == ("error", "model_not_finite", None)
    assert (old.quarantine, old.status) == ("produced_too_old", "ok")
    for number in range(2):  # whatever was sent before is written by then
        send(topic, observation(f"after-{number}"), partition=number)
        logged(engine, f"after-{number}")
    logged(engine, "twice")


def test_the_champion_follows_another_version_once_it_answers(observer: Observer, send: Send, engine: Engine) -> None:
    for name in ("v2-a", "v2-b"):
        send(
            observer.topics["observations"],
            observation(
                name, model_version="v2", probabilities={"a": 0.2, "b": 0.8}, encoder_fingerprints={"text": "t"}
            ),
        )
    assert logged(engine, "v2-b").probabilities == pytest.approx([0.2, 0.8])
    first, second = rows(engine, select(model_versions).order_by(model_versions.c.version))
    assert second.class_names == ["a", "b"]
    assert second.fingerprints["text"] == "t"
    assert first.fingerprints["image"] != second.fingerprints["image"]
    assert rows(engine, select(model_aliases.c.version)) == [("v2",)]


def test_probes_and_metrics(observer: Observer) -> None:
    assert observer.get("/healthz") == observer.get("/readyz") == "ok\n"
    expected = (
        'fusion_requests_total{model_version="2026-02",outcome="degraded"} 1.0',
        'fusion_requests_total{model_version="2026-02",outcome="model_not_finite"} 1.0',
        'fusion_requests_total{model_version="",outcome="duplicate"} 9.0',
        'fusion_modality_events_total{modality="image",status="corrupt"} 1.0',
        'fusion_dlq_records_total{reason="classes_differ"} 1.0',
        'fusion_quarantined_total{reason="produced_too_old"} 1.0',
        'fusion_end_to_end_duration_seconds_count{model_version="2026-02"} 1.0',
        "fusion_build_info{",
    )
    # a count is told just after its rows are committed
    wait_until(
        lambda: not [line for line in expected if line not in observer.get("/metrics")], SECONDS, "a figure is missing"
    )

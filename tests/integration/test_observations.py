"""A model served elsewhere, observed: real broker, real database, and what the monitor makes of it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, create_engine, func, select, text

from demo import servers
from inference.baseline import Validation
from inference.errors import Code, Refusal
from inference.hashing import Hasher
from inference.observations import Observation, parse
from inference.observed_registry import FAMILY
from inference.observed_versions import IDLE_SECONDS, Declared, Known, ObservedVersions
from inference.summarise import WindowSummaries
from migrations.schema import bins as schema_bins
from migrations.schema.monitoring import audit_log, baselines, model_aliases, model_versions
from migrations.schema.prediction_log import consumer_offsets, dead_letters, modality_log, prediction_log
from migrations.schema.summaries import summaries
from monitor import wiring
from monitor.telemetry import Metrics as MonitorMetrics
from tests.support import streams
from tests.support.monitored import GRACE, HOP, SLOT, WINDOW, Stage, StoryClock, settings
from tests.support.observing import PRESENT, Observer, observation, observing, send_all
from tests.support.worker import producer, read_all, wait_until
from tests.unit.inference.messages import packed

Send = Callable[..., None]
SECONDS = 60  # a busy machine's worth


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


def rows(engine: Engine, statement: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(statement).all())


def logged(engine: Engine, request_id: str) -> Any:
    """The request's log row, once it is there; there is never more than one."""
    statement = select(prediction_log).where(prediction_log.c.request_id == request_id)
    (row,) = wait_until(lambda: rows(engine, statement), SECONDS, f"{request_id} was not logged")
    return row


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
    assert set(bins.columns) == {"classes", "confidence", "agreement"}


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


def test_another_version_is_registered_beside_the_champion(observer: Observer, send: Send, engine: Engine) -> None:
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
    assert rows(engine, select(model_aliases.c.version)) == [("2026-02",)]


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


def assert_exactly_once(engine: Engine, sent: list[str]) -> None:
    """Every id logged once, with both its modalities, and counted once in the summaries."""
    ids = select(prediction_log.c.request_id)
    wait_until(lambda: len(rows(engine, ids)) >= len(sent), SECONDS, f"not all of {len(sent)} were logged")
    assert sorted(name for (name,) in rows(engine, ids)) == sorted(sent)
    assert rows(engine, select(func.count()).select_from(modality_log)) == [(2 * len(sent),)]
    fused = rows(engine, select(summaries).where(summaries.c.modality == "fused"))
    assert sum(each.counts["rows"] for each in fused) == len(sent)
    assert sum(schema_bins.load(each.bins).rows for each in fused) == len(sent)


@pytest.fixture
def own_engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    yield engine
    engine.dispose()


def test_killed_in_the_middle_it_loses_and_repeats_nothing_and_a_stop_drains_it_all_without_torch(
    database: str, own_engine: Engine, broker: str, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('this machine has no torch')")
    environment = {"PYTHONPATH": str(tmp_path)}
    observer = Observer("observe-killed", database, broker, {"WRITE_ROWS": "50"})
    sent = [f"r{n:05}" for n in range(400)]
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE :name"
    )
    name = {"name": "fusionwatch-observe%"}
    observer.start(tmp_path / "log", environment)
    try:
        send_all(broker, observer.topics["observations"], [observation(each) for each in sent[:100]])
        assert_exactly_once(own_engine, sent[:100])
        with own_engine.begin() as connection:  # the next transaction gets as far as its summaries
            connection.execute(text("LOCK TABLE summaries IN EXCLUSIVE MODE"))
            send_all(broker, observer.topics["observations"], [observation(each) for each in sent[100:]])
            wait_until(
                lambda: rows(own_engine, waiting.bindparams(**name)) == [(1,)], SECONDS, "nothing was being written"
            )
            observer.stop(signal.SIGKILL)
        observer.start(tmp_path / "log", environment)
        assert_exactly_once(own_engine, sent)
        assert observer.stop(signal.SIGTERM) == 0
    finally:
        observer.kill()
    group = consumer_offsets.c.group_id == observer.group
    assert rows(own_engine, select(func.sum(consumer_offsets.c.next_offset)).where(group)) == [(len(sent),)]


class Story:
    """A team's traffic in the time of a clock that tests move, observed, and watched by the monitor."""

    def __init__(self, observer: Observer, stage: Stage, database: str) -> None:
        self._observer = observer
        self._stage = stage
        self._sent = 0
        self._detect = wiring.detect(settings(database), stage.engine, MonitorMetrics(), stage.clock)

    def play(self, seconds: int, made: Callable[[int], dict[str, Any]], rate: int = 20) -> None:
        """Observations made by their number; they are summarised, then the clock moves on, then the monitor looks."""
        for _ in range(seconds // HOP):
            start = self._stage.clock.now()
            self._send(
                [
                    made(self._sent + n)
                    | {
                        "request_id": f"s{self._sent + n}",
                        "produced_at": (start + timedelta(seconds=n / rate)).isoformat(),
                    }
                    for n in range(rate * HOP)
                ]
            )
            self._stage.clock.advance(HOP + GRACE)
            self._detect.run()
            self._stage.clock.advance(-GRACE)

    def _send(self, messages: list[dict[str, Any]]) -> None:
        send_all(self._observer.broker, self._observer.topics["observations"], messages)
        self._sent += len(messages)
        counts = select(summaries.c.counts).where(summaries.c.modality == "fused")
        wait_until(
            lambda: sum(each.counts["rows"] for each in rows(self._stage.engine, counts)) == self._sent,
            SECONDS,
            "not every observation was summarised",
        )


@pytest.fixture
def stage(own_engine: Engine) -> Stage:
    return Stage(own_engine, StoryClock())


# the story's time is today's, but maybe hours from the broker's
STORY = {"SLOT_SECONDS": str(SLOT), "CLOCK_FUTURE_SECONDS": "90000", "CLOCK_PAST_SECONDS": "90000"}


def test_a_modality_that_goes_missing_elsewhere_is_found_and_paged_as_for_served_traffic(
    stage: Stage, database: str, broker: str
) -> None:
    gone = {"image": {"status": "missing", "reason": "not_sent"}, "text": PRESENT}
    observer = Observer("observe-story", database, broker, STORY)
    with observing(observer):
        story = Story(observer, stage, database)
        story.play(2 * HOP, lambda _: observation(None))
        assert set(stage.verdicts("availability", "image")) == {"ok"}
        assert "ModalityUnavailable" not in {alert.alertname for alert in stage.alerts()}
        story.play(HOP, lambda _: observation(None, modalities=gone))
    assert stage.verdicts("availability", "image")[-1] == "drift"
    assert set(stage.verdicts("availability", "text")) == {"ok"}
    assert set(stage.verdicts("class_drift", "fused")) == {"no_baseline"}
    (alert,) = [alert for alert in stage.alerts() if alert.alertname == "ModalityUnavailable"]
    assert (alert.modality, alert.severity, alert.state) == ("image", "page", "firing")


def test_with_a_baseline_drift_of_embeddings_made_elsewhere_is_found(
    stage: Stage, database: str, broker: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    (tmp_path / "2026-02").mkdir()
    streams.baseline(2000, rng).save(tmp_path / "2026-02")
    observer = Observer("observe-drift", database, broker, {**STORY, "BASELINES": str(tmp_path)})
    normal, dark = (
        streams.answers(4 * WINDOW * 20, rng, fault) for fault in (streams.Fault(), streams.Fault(dark=True))
    )
    with observing(observer):
        story = Story(observer, stage, database)
        story.play(WINDOW, lambda n: told(normal, n))
        assert stage.verdicts("embedding_mmd", "image")[-1] == "ok"
        story.play(WINDOW, lambda n: told(dark, n))
        assert stage.verdicts("embedding_mmd", "image")[-1] == "drift"
        assert stage.verdicts("embedding_mmd", "text")[-1] == "ok"
        assert stage.verdicts("quality", "image")[-1] == "drift"
        assert set(stage.verdicts("baseline", "all")) == {"ok"}
    with stage.engine.connect() as connection:
        assert connection.scalars(select(baselines.c.origin)).all() == ["file"]


def told(rows: Validation, n: int) -> dict[str, Any]:
    """Row n of answers as a team would send it."""

    def part(name: str) -> dict[str, Any]:
        names, values = streams.QUALITY[name], rows.quality[name][n]
        embedding = rows.embeddings[name][n].astype("<f4").tobytes()
        quality = {key: float(value) for key, value in zip(names, values, strict=True)}
        return {**PRESENT, "embedding": embedding, "dtype": "float32", "quality": quality}

    confidence, best = float(rows.confidence[n]), int(rows.predicted[n])
    rest = (1 - confidence) / (len(streams.CLASSES) - 1)
    return observation(
        None,
        probabilities={name: confidence if place == best else rest for place, name in enumerate(streams.CLASSES)},
        modalities={name: part(name) for name in ("image", "text")},
        fused_embedding=rows.embeddings["fused"][n].astype("<f2").tobytes(),
        fused_dtype="float16",
        agreement=bool(rows.agreement[n]),
    )


def parsed(**changes: Any) -> Observation:
    found = parse(packed(observation("r", **changes)), 1_000_000)
    assert isinstance(found, Observation), found
    return found


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def versions(engine: Engine, declared: Declared = Declared(), *, most: int = 8, **more: Any) -> ObservedVersions:
    windows = WindowSummaries({}, 60, 8, "o1")
    return ObservedVersions(engine, "fusion", declared, windows, actor="observer:o1", most=most, **more)


def code(found: Known | Refusal) -> Code | None:
    return found.code if isinstance(found, Refusal) else None


def test_versions_in_use_are_bounded_and_one_that_fell_silent_makes_room(own_engine: Engine) -> None:
    clock = Clock()
    held = versions(own_engine, most=2, clock=clock)
    for name in ("v1", "v2"):
        assert code(held.find(parsed(model_version=name))) is None
    assert code(held.find(parsed(model_version="v3"))) is Code.TOO_MANY_VERSIONS
    assert rows(own_engine, select(func.count()).select_from(model_versions)) == [(2,)]
    clock.now = IDLE_SECONDS
    assert code(held.find(parsed(model_version="v2"))) is None
    assert code(held.find(parsed(model_version="v3"))) is None  # v1 had to go
    assert code(held.find(parsed(model_version="v1"))) is Code.TOO_MANY_VERSIONS
    clock.now = 2 * IDLE_SECONDS
    assert code(held.find(parsed(model_version="v1"))) is None
    assert rows(own_engine, select(func.count()).select_from(model_versions)) == [(3,)]


def test_a_message_that_is_refused_registers_nothing(own_engine: Engine) -> None:
    declared = Declared(classes=("yes", "no"))
    assert code(versions(own_engine).find(parsed(probabilities=None))) is Code.MODEL_VERSION_UNKNOWN
    assert code(versions(own_engine, declared).find(parsed(probabilities={"a": 1.0}))) is Code.CLASSES_DIFFER
    assert rows(own_engine, select(model_versions)) == rows(own_engine, select(model_aliases)) == []


def test_declared_classes_keep_their_order_and_need_no_answer_to_be_known(own_engine: Engine) -> None:
    found = versions(own_engine, Declared(classes=("yes", "no"))).find(parsed(probabilities=None))
    assert isinstance(found, Known)
    assert found.classes == ("yes", "no")
    after_restart = versions(own_engine).find(parsed())
    assert isinstance(after_restart, Known)
    assert after_restart.classes == ("yes", "no")
    assert code(versions(own_engine).find(parsed(probabilities={"a": 1.0}))) is Code.CLASSES_DIFFER


def test_a_version_of_another_model_is_not_taken(own_engine: Engine) -> None:
    assert code(versions(own_engine).find(parsed())) is None
    other = ObservedVersions(
        own_engine, "ranking", Declared(), WindowSummaries({}, 60, 8, "o2"), actor="observer:o2", most=8
    )
    assert code(other.find(parsed())) is Code.MODEL_VERSION_UNKNOWN


def test_observers_that_see_a_version_at_once_agree_about_it(own_engine: Engine) -> None:
    found: list[Known | Refusal] = []
    barrier = threading.Barrier(4)

    def look(classes: tuple[str, ...]) -> None:
        held = versions(own_engine, Declared(classes=classes))
        barrier.wait()
        found.append(held.find(parsed()))

    threads = [threading.Thread(target=look, args=(each,)) for each in 2 * [("yes", "no"), ("no", "yes")]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=SECONDS)
    assert len({each.classes for each in found if isinstance(each, Known)}) == 1
    assert len(found) == 4
    assert len(rows(own_engine, select(model_versions))) == len(rows(own_engine, select(audit_log))) == 1

"""A worker on a real database, a real broker and the demo checkpoint: every message ends as it should."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import Engine, create_engine, insert, select, text, update

from demo import servers
from demo.examples import example_stream
from inference import registry
from inference.models.checkpoint import CARD, WEIGHTS, load_checkpoint, write_manifest
from migrations.schema import bins as schema_bins
from migrations.schema import embedding_samples as samples
from migrations.schema.monitoring import audit_log, baselines, model_aliases, model_versions
from migrations.schema.prediction_log import dead_letters, labels, modality_log, prediction_log
from migrations.schema.summaries import summaries
from tests.support.worker import CHECKPOINT, WorkerProcess, in_process, picture, producer, read_all, request, wait_until

Send = Callable[..., None]


@pytest.fixture(scope="module")
def engine(postgres_server: servers.Database) -> Iterator[Engine]:
    url = postgres_server.create("worker_tests", template="template")
    engine = create_engine(url)
    yield engine
    engine.dispose()
    postgres_server.drop("worker_tests")


@pytest.fixture(scope="module")
def worker(engine: Engine, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    url = engine.url.render_as_string(hide_password=False)
    log = tmp_path_factory.mktemp("worker") / "log"
    worker = WorkerProcess("data-plane", url, broker, log, extra={"CONTRIBUTION_SHARE": "1"})
    with in_process(worker):
        yield worker


@pytest.fixture(scope="module")
def send(broker: str) -> Iterator[Send]:
    with producer(broker) as send:
        yield send


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def rows(engine: Engine, statement: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(statement).all())


def logged(engine: Engine, request_id: str, seconds: float = 20) -> Any:
    """The request's log row, once it is there; there is never more than one."""
    statement = select(prediction_log).where(prediction_log.c.request_id == request_id)
    (row,) = wait_until(lambda: rows(engine, statement), seconds, f"{request_id} was not logged")
    return row


def statuses(engine: Engine, request_id: str) -> dict[str, tuple[str, str | None]]:
    table = modality_log.c
    found = rows(engine, select(table.modality, table.status, table.reason).where(table.request_id == request_id))
    return {name: (status, reason) for name, status, reason in found}


def answers(worker: WorkerProcess, ids: set[str]) -> dict[str, dict[str, Any]]:
    """The answers to these requests, by request id."""

    def by_id(messages: list[Any]) -> dict[str, dict[str, Any]]:
        return {m.key.decode(): json.loads(m.value) for m in messages if m.key.decode() in ids}

    return by_id(read_all(worker.broker, worker.topics["predictions"], lambda m: by_id(m).keys() == ids))


def test_a_request_is_answered_logged_and_summarised(worker: WorkerProcess, send: Send, engine: Engine) -> None:
    send(worker.topics["requests"], request("good", correlation_id="c1", source="camera-1"))
    row = logged(engine, "good")
    assert (row.status, row.route, row.degraded, row.quarantine) == ("ok", "fused", False, None)
    assert (row.correlation_id, row.source, row.topic) == ("c1", "camera-1", worker.topics["requests"])
    answer = answers(worker, {"good"})["good"]
    assert answer["prediction"] == row.prediction
    assert list(answer["probabilities"].values()) == pytest.approx(row.probabilities, abs=1e-6)
    assert statuses(engine, "good") == {"image": ("present", None), "text": ("present", None)}
    version = rows(engine, select(model_aliases.c.version).where(model_aliases.c.alias == "champion"))
    assert [(row.model_version,)] == version
    adopted = rows(engine, select(audit_log.c.action, audit_log.c.subject))
    assert ("adopt_champion", "model:fusion") in adopted
    assert len(rows(engine, select(baselines))) == 1
    stored = rows(engine, select(summaries).where(summaries.c.modality == "fused"))
    assert sum(s.counts["rows"] for s in stored) == sum(schema_bins.load(s.bins).rows for s in stored) == 1
    sampled = rows(engine, select(samples.embedding_samples).order_by(samples.embedding_samples.c.modality))
    assert [(each.modality, each.request_id, each.prediction, each.route) for each in sampled] == [
        (name, "good", row.prediction, "fused") for name in ("fused", "image", "text")
    ]
    assert all(np.isfinite(samples.load(each.embedding)).all() for each in sampled)


def test_bad_messages_are_dead_lettered_with_their_reasons(worker: WorkerProcess, send: Send, engine: Engine) -> None:
    bad = {
        "not_decodable": b"not json",
        "message_empty": None,
        "unknown_schema_version": request("x", schema_version=9),
        "request_id_missing": request(None),
        "request_id_too_long": request("x" * 129),
        "no_modality": request("x", modalities={}),
        "unknown_modality": request("x", modalities={"smell": {"data": "x"}}),
        "base64_invalid": request("x", modalities={"image": {"data": "***"}}),
        "produced_at_invalid": request("x", produced_at="yesterday"),
        "no_usable_modality": request("x", modalities={"text": {"data": "a\0b"}}),
    }
    for message in bad.values():
        send(worker.topics["requests"], message, headers=[("traceparent", b"00-1-2-01")])
    send(worker.topics["requests"], request("after-bad"))
    logged(engine, "after-bad")
    letters = read_all(worker.broker, worker.topics["dead_letters"], lambda m: len(m) >= len(bad))
    headers = [dict(letter.headers) for letter in letters]
    assert sorted(each["error-code"].decode() for each in headers) == sorted(bad)
    for each, letter in zip(headers, letters, strict=True):
        assert each["traceparent"] == b"00-1-2-01"
        assert each["origin-topic"].decode() == worker.topics["requests"]
        original = bad[each["error-code"].decode()]
        assert letter.value == (json.dumps(original).encode() if isinstance(original, dict) else original)
    table = dead_letters.c
    stored = rows(engine, select(table.error_code, table.offset).where(table.topic == worker.topics["requests"]))
    expected = {(each["error-code"].decode(), int(each["origin-offset"])) for each in headers}
    assert set(map(tuple, stored)) == expected
    assert rows(engine, select(prediction_log).where(prediction_log.c.request_id == "x")) == []


@pytest.mark.parametrize(
    ("image", "status", "reason"),
    [
        (picture(side=64)[:-900], "corrupt", "truncated"),
        (b"\xff" * 10_000_001, "rejected", "too_large"),
        (picture(kind="GIF"), "rejected", "format_not_allowed"),
        (b"", "missing", "empty"),
    ],
)
def test_an_unusable_image_leaves_the_rest_predicted(
    worker: WorkerProcess, send: Send, engine: Engine, image: bytes, status: str, reason: str
) -> None:
    name = f"image-{reason}"
    parts = {"image": {"data": base64.b64encode(image).decode()}, "text": {"data": "a red circle"}}
    send(worker.topics["requests"], request(name, modalities=parts))
    row = logged(engine, name)
    assert (row.status, row.route, row.degraded) == ("ok", "fallback:text", True)
    assert statuses(engine, name) == {"image": (status, reason), "text": ("present", None)}


@pytest.mark.parametrize(
    ("caption", "status", "reason"),
    [
        ("a" * 64_001, "rejected", "too_large"),
        ("", "missing", "empty"),
        ("a\0b", "rejected", "nul"),
        ("a\ud800b", "rejected", "lone_surrogate"),
    ],
)
def test_an_unusable_text_leaves_the_rest_predicted(
    worker: WorkerProcess, send: Send, engine: Engine, caption: str, status: str, reason: str
) -> None:
    name = f"text-{reason}"
    image = {"data": base64.b64encode(picture()).decode()}
    send(worker.topics["requests"], request(name, modalities={"image": image, "text": {"data": caption}}))
    row = logged(engine, name)
    assert (row.route, row.degraded) == ("fallback:image", True)
    assert statuses(engine, name) == {"image": ("present", None), "text": (status, reason)}


def test_a_clock_far_off_is_logged_but_kept_out_of_windows(worker: WorkerProcess, send: Send, engine: Engine) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    send(worker.topics["requests"], request("tomorrow", produced_at=tomorrow.isoformat()))
    assert logged(engine, "tomorrow").quarantine == "produced_in_future"
    assert answers(worker, {"tomorrow"})
    fused = rows(engine, select(summaries.c.counts, summaries.c.slot_start).where(summaries.c.modality == "fused"))
    assert sum(counts.get("quarantined", 0) for counts, _ in fused) == 1
    assert all(slot < datetime.now(UTC) for _, slot in fused)


def test_a_repeated_request_id_is_logged_once(worker: WorkerProcess, send: Send, engine: Engine) -> None:
    for index in range(20):
        send(worker.topics["requests"], request("twice"), partition=index % 2)
    send(worker.topics["requests"], request("after-0"), partition=0)
    send(worker.topics["requests"], request("after-1"), partition=1)
    logged(engine, "after-0")
    logged(engine, "after-1")
    logged(engine, "twice")
    total = rows(engine, text("SELECT count(*) FROM prediction_log"))[0][0]
    counted = sum(s.counts["rows"] + s.counts.get("quarantined", 0) for s in _fused(engine))
    assert counted == total


def _fused(engine: Engine) -> list[Any]:
    return rows(engine, select(summaries).where(summaries.c.modality == "fused"))


def test_what_each_modality_contributes_is_summarised(worker: WorkerProcess, send: Send, engine: Engine) -> None:
    def lost() -> NDArray[np.float64]:
        """Image, text, and rows on which that was measured."""
        return schema_bins.merge(schema_bins.load(each.bins) for each in _fused(engine)).total("contribution")

    before = lost()
    for scene in islice(example_stream(3), 12):
        image = {"data": base64.b64encode(png(scene.image)).decode()}
        parts = {"image": image, "text": {"data": scene.caption}}
        send(worker.topics["requests"], request(f"s{scene.number}", modalities=parts))
    for number in range(12):
        logged(engine, f"s{number}")
    image, text, measured = lost() - before
    # one batch each at worst: the first ones may have no partner yet
    assert 6 <= measured <= 12
    # what is consistent or misleading by its picture is nothing of the kind by another one
    assert image > 2.0
    assert text > 2.0
    assert "fusion_contribution_duration_seconds_count" in worker.get("/metrics")


def test_labels_keep_the_newest_and_bad_ones_are_dead_lettered(
    worker: WorkerProcess, send: Send, engine: Engine
) -> None:
    topic = worker.topics["labels"]

    def label(request_id: str, name: str, minute: int, **changes: Any) -> dict[str, Any]:
        at = f"2026-01-01T00:{minute:02}:00Z"
        fields = {"schema_version": 1, "request_id": request_id, "label": name, "labelled_at": at}
        return {**fields, "source": "human_review", **changes}

    send(topic, label("good", "newest", 30, annotator="ann@example.org"), partition=0)
    send(topic, label("good", "older", 10), partition=0)
    send(topic, label("good", "older too", 20), partition=0)
    send(topic, label("good", "x", 40, source="rumour"), partition=0)
    send(topic, b"junk", partition=0)
    send(topic, label("never-seen", "kept", 1), partition=0)
    statement = select(labels).order_by(labels.c.request_id)
    wait_until(lambda: len(rows(engine, statement)) == 2, 20, "labels were not stored")
    good, unknown = rows(engine, statement)
    assert (good.label, good.key_id, len(good.annotator_digest)) == ("newest", "k1", 32)
    assert (unknown.request_id, unknown.label) == ("never-seen", "kept")
    table = dead_letters.c
    stored = rows(engine, select(table.error_code).where(table.topic == topic).order_by(table.offset))
    assert stored == [("field_invalid",), ("not_decodable",)]


def _candidate(folder: Path, temperature: float) -> Path:
    shutil.copytree(CHECKPOINT, folder)
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "temperature": temperature}))
    write_manifest(folder)
    return folder


def _promote(engine: Engine, version: str) -> None:
    with engine.begin() as connection:
        connection.execute(update(model_aliases).values(version=version, updated_at=datetime.now(UTC)))


def test_a_new_champion_answers_without_a_restart_and_a_broken_one_never_does(
    worker: WorkerProcess, send: Send, engine: Engine, tmp_path: Path
) -> None:
    old = rows(engine, select(model_aliases.c.version))[0][0]
    good = load_checkpoint(_candidate(tmp_path / "good", 5.0), torch.device("cpu"))
    with engine.begin() as connection:
        registry.register(connection, good.card, None, "fusion")
        registry.register(connection, good.card, None, "fusion")
        broken = dict(connection.execute(select(model_versions).where(model_versions.c.version == old)).one()._mapping)
        broken |= {"version": "broken", "checkpoint": str(_candidate(tmp_path / "broken", 3.0))}
        connection.execute(insert(model_versions).values(broken))
    (tmp_path / "broken" / WEIGHTS).write_bytes(b"damaged")
    _promote(engine, "broken")
    wait_until(lambda: 'fusion_model_reloads_total{result="refused"} 1' in worker.get("/metrics"), 20, "not refused")
    send(worker.topics["requests"], request("beside-broken"))
    assert logged(engine, "beside-broken").model_version == old
    _promote(engine, good.version)
    wait_until(lambda: 'fusion_model_reloads_total{result="swapped"} 1' in worker.get("/metrics"), 90, "not swapped")
    send(worker.topics["requests"], request("by-new"))
    row = logged(engine, "by-new")
    assert row.model_version == good.version
    assert answers(worker, {"by-new"})["by-new"]["model_version"] == good.version
    before = logged(engine, "good")
    assert row.prediction == before.prediction
    assert row.confidence < before.confidence  # the higher temperature
    assert {s.model_version for s in _fused(engine)} == {old, good.version}


def test_probes_and_metrics(worker: WorkerProcess) -> None:
    assert worker.get("/healthz") == worker.get("/readyz") == "ok\n"
    page = worker.get("/metrics")
    for line in (
        'fusion_dlq_records_total{reason="not_decodable"}',
        'fusion_modality_events_total{modality="image",status="corrupt"} 1.0',
        'fusion_quarantined_total{reason="produced_in_future"} 1.0',
        'fusion_requests_total{model_version="",outcome="duplicate"} 19.0',
        'fusion_labels_total{source="human_review"}',
        'fusion_fusion_duration_seconds_bucket{le="0.05"',
        'fusion_end_to_end_duration_seconds_bucket{le="0.3"',
        'fusion_consumer_lag_messages{partition="0"',
        "fusion_build_info{",
    ):
        assert line in page

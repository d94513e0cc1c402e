"""A retraining on real rows: demo checkpoint, log, a store of raw messages, and the gate that reads the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import Engine, insert, select

from demo.cameras import NEW_CAMERA
from demo.deployment import CHECKPOINT
from demo.examples import Example, example_stream
from demo.traffic import encode
from inference import registry
from inference.baseline import Baseline
from inference.hashing import Hasher
from inference.jobs import ClaimedJob
from inference.labelled import Resolver, labelled_rows
from inference.modalities.base import modalities
from inference.models.checkpoint import Checkpoint, load_checkpoint
from inference.request import RequestParser
from inference.retrain import NotEnoughRowsError, Retraining, RetrainSettings
from inference.training.fit_settings import FitSettings
from inference.training.store import LABELS, LocalStore
from migrations.connect import connect
from migrations.schema.monitoring import baselines, model_versions
from migrations.schema.prediction_log import labels, modality_log, prediction_log
from monitor.domain.gate_result import parse_result

CPU = torch.device("cpu")
HASHER = Hasher("k1", b"k" * 32)
ROWS = 420


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = connect(database, application="test")
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def champion() -> Checkpoint:
    return load_checkpoint(CHECKPOINT, CPU)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(islice(example_stream(11, NEW_CAMERA), ROWS))


def log(engine: Engine, store: LocalStore, examples: list[Example], *, wrong_digest: bool = False) -> None:
    """What the worker, the reviewers and the team's own storage would have written of these examples."""
    now = datetime.now(UTC)
    rows, parts, labelled = [], [], []
    for example in examples:
        request_id = f"r{example.number}"
        store.put(request_id, encode(request_id, now, example, with_image=True, as_json=False))
        rows.append(
            {
                "request_id": request_id,
                "logged_at": now,
                "produced_at": now,
                "topic": "t",
                "partition": 0,
                "offset": example.number,
                "schema_version": 1,
                "model_version": "m",
                "route": "fused",
                "status": "ok",
                "degraded": False,
                **{f"{stage}_ms": 1.0 for stage in ("queue", "preprocess", "encode", "fuse", "total")},
            }
        )
        text = "something else" if wrong_digest else example.caption
        parts.append(
            {
                "request_id": request_id,
                "modality": "text",
                "logged_at": now,
                "status": "present",
                "digest": HASHER.digest(text),
                "key_id": "k1",
            }
        )
        labelled.append(
            {
                "request_id": request_id,
                "label": example.label.name.lower(),
                "labelled_at": now,
                "received_at": now,
                "source": "human_review",
            }
        )
    with engine.begin() as connection:
        connection.execute(insert(prediction_log), rows)
        connection.execute(insert(modality_log), parts)
        connection.execute(insert(labels), labelled)


def freeze(store: LocalStore, folder: Path, examples: list[Example]) -> None:
    """A test set of messages that the log knows too."""
    lines = []
    for example in examples:
        request_id = f"r{example.number}"
        store.put(request_id, encode(request_id, datetime.now(UTC), example, with_image=True, as_json=False))
        lines.append(json.dumps({"request_id": request_id, "label": example.label.name.lower()}))
    (folder / LABELS).write_text("\n".join(lines), encoding="utf-8")


def job(version: str) -> ClaimedJob:
    until = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    return ClaimedJob(
        1,
        "fusion",
        {"base_version": version, "labels_until": until, "max_rows": 1000},
        1,
        datetime.max.replace(tzinfo=UTC),
        "t1",
    )


def test_a_job_ends_in_a_registered_candidate_and_a_result_the_gate_can_read(
    engine: Engine, champion: Checkpoint, examples: list[Example], tmp_path: Path
) -> None:
    for name in ("raw", "out", "test"):
        (tmp_path / name).mkdir()
    log(engine, LocalStore(tmp_path / "raw"), examples)
    freeze(LocalStore(tmp_path / "test"), tmp_path / "test", examples[:20])
    with engine.begin() as connection:
        registry.register(connection, champion.card, None, "fusion")
    fit = FitSettings(steps=2, batch_size=16)
    settings = RetrainSettings(tmp_path / "out", tmp_path / "raw", None, fit, test=tmp_path / "test")
    told: list[dict[str, object]] = []
    result = Retraining(engine, HASHER, settings, CPU)(
        job(champion.version), lambda **facts: told.append(facts), lambda: False
    )

    found = parse_result(result)
    gate = found.recent
    assert gate.champion.version == champion.version
    assert gate.candidate.n == gate.champion.n > 50
    assert set(gate.candidate.by_pattern) == {"fused", "image", "text"}
    assert sum(n for _, n in gate.candidate.by_class.values()) == gate.candidate.n
    assert found.test is not None
    assert found.test.candidate.n == 20, "measured, and not trained on"
    assert len(examples) - 20 == result["training"]["rows"] + result["training"]["held_out"]
    for measured in (gate.champion, gate.candidate):
        assert min(measured.reliance.values()) > 0.1, "the label is about the pair: neither part alone tells it"
        assert measured.latency_ms is not None
    discordant = gate.only_champion_right - gate.only_candidate_right
    assert discordant == pytest.approx((gate.champion.accuracy - gate.candidate.accuracy) * gate.candidate.n)

    candidate = load_checkpoint(tmp_path / "out" / "job-1-attempt-1", CPU)
    assert candidate.version == gate.candidate.version != champion.version
    assert candidate.fingerprints["fused"] != champion.fingerprints["fused"]
    unseen = result["training"]["held_out"]
    assert Baseline.load(candidate.folder).reference["image"].rows == unseen, "the baseline is what it never saw"
    with engine.connect() as connection:
        row = connection.execute(select(model_versions).where(model_versions.c.version == candidate.version)).one()
        assert (row.job_id, row.checkpoint) == (1, str(candidate.folder))
        assert connection.scalar(select(baselines.c.model_version)) == candidate.version
    assert {key: told[-2].get(key) for key in ("step", "steps")} == {"step": 2, "steps": 2}


def test_rows_whose_raw_input_is_not_what_was_logged_are_left_out(
    engine: Engine, champion: Checkpoint, examples: list[Example], tmp_path: Path
) -> None:
    log(engine, LocalStore(tmp_path), examples[:5], wrong_digest=True)
    with engine.begin() as connection:
        registry.register(connection, champion.card, None, "fusion")
    settings = RetrainSettings(tmp_path, tmp_path, None, FitSettings(steps=1))
    with pytest.raises(NotEnoughRowsError, match=r"0 of 5 .*'digest_differs': 5"):
        Retraining(engine, HASHER, settings, CPU)(job(champion.version), lambda **_: None, lambda: False)


def test_every_reason_to_leave_a_row_out_is_counted(
    engine: Engine, champion: Checkpoint, examples: list[Example], tmp_path: Path
) -> None:
    store = LocalStore(tmp_path)
    log(engine, store, examples[:6])
    (first, second, third, fourth) = (f"r{example.number}" for example in examples[:4])
    now = datetime.now(UTC)
    store.put(first, b"not a message")
    store.put(second, encode(second, now, examples[1], with_image=False, as_json=False))
    store.put(third, encode("another", now, examples[2], with_image=True, as_json=False))
    known = modalities()
    parser = RequestParser({name: modality.wire for name, modality in known.items()})
    resolver = Resolver(store, parser, {name: known[name] for name in ("image", "text")}, champion.labels, HASHER)
    with engine.connect() as connection:
        rows = labelled_rows(connection, now + timedelta(minutes=1), 100)
    strange = [type(row)(row.request_id, "unheard of", row.digests) for row in rows if row.request_id == fourth]
    resolved = resolver.resolve([row for row in rows if row.request_id != fourth] + strange)
    assert dict(resolved.left_out) == {"not_that_request": 2, "modality_missing": 1, "unknown_label": 1}
    assert {example.key for example in resolved.examples} == {f"r{e.number}" for e in examples[4:6]}
    for example in resolved.examples:
        original = examples[int(example.key[1:])]
        assert example.caption == original.caption
        assert example.image is not None
        assert np.array_equal(example.image, original.image), "PNG gives every pixel back"

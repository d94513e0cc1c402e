"""A retraining on real rows: demo checkpoint, log, a store of raw messages, and the gate that reads the result."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import Engine, insert, select

from demo.cameras import NEW_CAMERA
from demo.deployment import CHECKPOINT
from demo.examples import Example, example_stream
from demo.servers import as_login
from demo.traffic import encode
from inference import registry
from inference.baseline import Baseline
from inference.gather import Gathering, GatherSettings, NotEnoughRowsError, StoreIncompleteError
from inference.job_tracking import JobTracker
from inference.jobs import ClaimedJob, claim
from inference.labelled import labelled_rows
from inference.modalities.base import modalities
from inference.models.checkpoint import Checkpoint, load_checkpoint
from inference.request import RequestParser
from inference.resolver import FromMessages, Resolver
from inference.retrain import Retraining, RetrainSettings
from inference.stores.local import LocalFolder
from inference.training.fit_settings import FitSettings
from inference.training.store import LABELS, LocalStore
from migrations.connect import connect
from migrations.schema.lineage import job_rows
from migrations.schema.monitoring import baselines, jobs, model_versions
from monitor.domain.gate_result import parse_result
from tests.support.retraining import HASHER, log

CPU = torch.device("cpu")
ROWS = 420


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = connect(database, application="test")
    yield engine
    engine.dispose()


@pytest.fixture
def trainer(database: str) -> Iterator[Engine]:
    """As the login that a trainer has, which may do less."""
    engine = connect(as_login(database, "fusion_trainer"), application="test")
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def champion() -> Checkpoint:
    return load_checkpoint(CHECKPOINT, CPU)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(islice(example_stream(11, NEW_CAMERA), ROWS))


def job(engine: Engine, version: str) -> ClaimedJob:
    """A job that this process has claimed."""
    now = datetime.now(UTC)
    spec = {"base_version": version, "labels_until": (now + timedelta(minutes=1)).isoformat(), "max_rows": 1000}
    with engine.begin() as connection:
        connection.execute(
            insert(jobs).values(model="fusion", state="queued", spec=spec, deadline=now + timedelta(hours=1))
        )
        claimed = claim(connection, "fusion", "t1", now)
    assert claimed is not None
    return claimed


def freeze(store: LocalStore, folder: Path, examples: list[Example]) -> None:
    """A test set of messages that the log knows too."""
    lines = []
    for example in examples:
        request_id = f"r{example.number}"
        store.put(request_id, encode(request_id, datetime.now(UTC), example, with_image=True, as_json=False))
        lines.append(json.dumps({"request_id": request_id, "label": example.label.name.lower()}))
    (folder / LABELS).write_text("\n".join(lines), encoding="utf-8")


def retraining(
    engine: Engine, out: Path, raw: Path, steps: int, tracker: JobTracker | None = None, **changes: Any
) -> Retraining:
    gather = GatherSettings(LocalFolder(raw), None, **changes)
    settings = RetrainSettings(out, gather, FitSettings(steps=steps, batch_size=16))
    return Retraining(engine, HASHER, settings, CPU, tracker=tracker)


class Told(JobTracker):
    """Keeps what it is told of."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def begin(self, job: ClaimedJob, settings: FitSettings, lineage: Mapping[str, Any]) -> None:
        self.calls.append(("begin", job.job_id, settings.steps, lineage["base_version"]))

    def step(self, step: int, loss: float) -> None:  # noqa: ARG002
        self.calls.append(("step", step))

    def finish(self, result: Mapping[str, Any], version: str, folder: Path) -> None:
        self.calls.append(("finish", result["candidate"]["version"], version, folder.name))

    def end(self, status: str) -> None:
        self.calls.append(("end", status))


def test_a_job_ends_in_a_registered_candidate_and_a_result_the_gate_can_read(
    engine: Engine, trainer: Engine, champion: Checkpoint, examples: list[Example], tmp_path: Path
) -> None:
    for name in ("raw", "out", "test"):
        (tmp_path / name).mkdir()
    log(engine, LocalStore(tmp_path / "raw"), examples)
    freeze(LocalStore(tmp_path / "test"), tmp_path / "test", examples[:20])
    with engine.begin() as connection:
        registry.register(connection, champion.card, None, "fusion")
    told: list[dict[str, object]] = []
    frozen = LocalFolder(tmp_path / "test")
    tracked = Told()
    result = retraining(trainer, tmp_path / "out", tmp_path / "raw", steps=2, tracker=tracked, test=frozen)(
        job(engine, champion.version), lambda **facts: told.append(facts), lambda: False
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
    finished = ("finish", candidate.version, candidate.version, "job-1-attempt-1")
    assert tracked.calls == [("begin", 1, 2, champion.version), ("step", 1), ("step", 2), finished]
    assert candidate.fingerprints["fused"] != champion.fingerprints["fused"]
    unseen = result["training"]["held_out"]
    assert Baseline.load(candidate.folder).reference["image"].rows == unseen, "the baseline is what it never saw"
    with engine.connect() as connection:
        row = connection.execute(select(model_versions).where(model_versions.c.version == candidate.version)).one()
        assert (row.job_id, row.checkpoint) == (1, str(candidate.folder))
        assert connection.scalar(select(baselines.c.model_version)) == candidate.version
    assert {key: told[-2].get(key) for key in ("step", "steps")} == {"step": 2, "steps": 2}
    assert datetime.fromisoformat(str(told[-2]["eta"])) <= datetime.now(UTC)
    assert not list((tmp_path / "out").glob("*-state")), "nothing is left of what a later attempt would go on from"


def test_rows_whose_raw_input_is_not_what_was_logged_are_left_out(
    engine: Engine, trainer: Engine, champion: Checkpoint, examples: list[Example], tmp_path: Path
) -> None:
    log(engine, LocalStore(tmp_path), examples[:5], wrong_digest=True)
    with engine.begin() as connection:
        registry.register(connection, champion.card, None, "fusion")
    tracked = Told()
    work = retraining(trainer, tmp_path, tmp_path, steps=1, tracker=tracked)
    with pytest.raises(NotEnoughRowsError, match=r"0 of 5 .*'digest_differs': 5"):
        work(job(engine, champion.version), lambda **_: None, lambda: False)
    assert tracked.calls == [("end", "FAILED")]


def test_every_reason_to_leave_a_row_out_is_counted(
    engine: Engine, trainer: Engine, champion: Checkpoint, examples: list[Example], tmp_path: Path
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
    chosen = {name: known[name] for name in ("image", "text")}
    resolver = Resolver(FromMessages(store, parser), chosen, champion.labels, HASHER)
    with trainer.connect() as connection:
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


def test_what_a_job_was_trained_on_can_be_read_back(
    engine: Engine, trainer: Engine, champion: Checkpoint, examples: list[Example], tmp_path: Path
) -> None:
    for name in ("raw", "out", "old"):
        (tmp_path / name).mkdir()
    raw, old = LocalStore(tmp_path / "raw"), LocalStore(tmp_path / "old")
    log(engine, raw, examples)
    lost, broken = (f"r{example.number}" for example in examples[:2])
    gone = tmp_path / "raw" / f"{hashlib.sha256(lost.encode()).hexdigest()}.msgpack"
    gone.unlink()
    raw.put(broken, b"not a message")
    now = datetime.now(UTC)
    for number in range(200):
        old.put(f"o{number}", encode(f"o{number}", now, examples[number], with_image=True, as_json=False))
    named = [{"request_id": f"o{n}", "label": examples[n].label.name.lower()} for n in range(200)]
    (tmp_path / "old" / "labels.jsonl").write_text("\n".join(map(json.dumps, named)))
    with engine.begin() as connection:
        registry.register(connection, champion.card, None, "fusion")
    gather = GatherSettings(LocalFolder(tmp_path / "raw"), LocalFolder(tmp_path / "old"), replay_share=0.25)
    settings = RetrainSettings(tmp_path / "out", gather, FitSettings(steps=1, batch_size=16))
    claimed = job(engine, champion.version)
    result = Retraining(trainer, HASHER, settings, CPU)(claimed, lambda **_: None, lambda: False)

    with engine.connect() as connection:
        lineage: Any = connection.scalar(select(jobs.c.lineage))
        rows = connection.execute(select(job_rows).order_by(job_rows.c.place)).all()
    parts = Counter((row.origin, row.part) for row in rows)
    assert parts["log", "training"] == result["training"]["rows"] == lineage["rows"]["log"]["training"]
    assert parts["original", "training"] == result["training"]["replay"] == lineage["rows"]["original"]["training"]
    share = parts["original", "training"] / (parts["original", "training"] + parts["log", "training"])
    assert share == pytest.approx(0.25, abs=0.005)
    assert sum(parts[("log", part)] for part in ("training", "calibration", "measuring")) == ROWS - 2
    left_out = {row.request_id: row.reason for row in rows if row.part == "left_out"}
    assert left_out == {lost: "not_in_store", broken: "not_that_request"} == result["training"]["left_out_rows"]
    assert lineage["left_out"] == {"not_in_store": 1, "not_that_request": 1}
    by_id = {f"r{example.number}": example for example in examples}
    for row in rows:
        if row.origin == "log":
            assert row.digests == {"text": ["k1", HASHER.digest(by_id[row.request_id].caption).hex()]}
            assert row.label == by_id[row.request_id].label.name.lower()
    assert lineage["base_version"] == champion.version
    assert (lineage["store"], lineage["original"]) == (str(tmp_path / "raw"), str(tmp_path / "old"))
    assert set(lineage["code"]) == {"fusionwatch", "sha256", "torch", "python"}
    strict = replace(gather, max_missing=0.004)
    with pytest.raises(StoreIncompleteError, match=r"2 of 420 labelled rows cannot be had .* 0% are allowed"):
        Gathering(strict, HASHER, champion)(trainer, replace(claimed, job_id=claimed.job_id + 1))

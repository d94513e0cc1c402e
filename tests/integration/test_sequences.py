"""Sequences and tables from an annotations file to a worker's log: trained, served, measured and watched."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from sqlalchemy import Engine, create_engine, select

from demo import servers
from demo.sequences import LABELS, npy, values, write_sequences
from inference import cli_train
from inference.modalities.base import modalities
from inference.models.checkpoint import Checkpoint, load_checkpoint
from inference.training.annotated import AnnotatedExamples
from inference.training.annotations import read_annotations
from inference.training.evaluate import evaluate
from migrations.schema import bins as schema_bins
from migrations.schema.monitoring import baselines
from migrations.schema.prediction_log import modality_log, prediction_log
from migrations.schema.summaries import summaries
from tests.support.worker import WorkerProcess, in_process, producer, read_all, request, wait_until

ALL = ("audio", "tabular", "video")
SENT = ("whole", "packed", "partly", "torn", "wide")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; its rows lie beside it."""
    folder = tmp_path_factory.mktemp("sequences")
    config = write_sequences(folder, 700, seed=3)
    config.write_text(config.read_text().replace("1200", "180"))
    assert cli_train.run(config, force=False) == cli_train.FINISHED
    return folder / "trained"


@pytest.fixture(scope="module")
def checkpoint(trained: Path) -> Checkpoint:
    return load_checkpoint(trained / "checkpoint", torch.device("cpu"))


@pytest.fixture(scope="module")
def engine(postgres_server: servers.Database) -> Iterator[Engine]:
    engine = create_engine(postgres_server.create("sequences", template="template"))
    yield engine
    engine.dispose()
    postgres_server.drop("sequences")


@pytest.fixture(scope="module")
def served(engine: Engine, broker: str, trained: Path) -> dict[str, dict[str, Any]]:
    """The answers of a worker that was sent what `messages` has, by request id."""
    url = engine.url.render_as_string(hide_password=False)
    extra = {"CHECKPOINT": str(trained / "checkpoint"), "CONTRIBUTION_SHARE": "1"}
    worker = WorkerProcess("sequences", url, broker, trained / "log", extra=extra)
    with in_process(worker), producer(broker) as send:
        for message, headers in messages():
            send(worker.topics["requests"], message, headers=headers)
        done = select(prediction_log.c.request_id)
        wait_until(lambda: len(rows(engine, done)) == len(SENT), 30, "not all requests were logged")
        found = read_all(broker, worker.topics["predictions"], lambda answers: len(answers) == len(SENT))
    return {answer.key.decode(): json.loads(answer.value) for answer in found}


def messages() -> Iterator[tuple[Any, list[tuple[str, bytes]]]]:
    """One request as JSON and as MessagePack, and some that lack, or tear, or widen a part."""
    row = values(np.random.default_rng(11))[0]
    raw = {name: npy(row[name]) for name in ("audio", "video")}
    sent: dict[str, Any] = {name: {"data": base64.b64encode(data).decode()} for name, data in raw.items()}
    sent["tabular"] = {"data": dict(reversed(row["tabular"].items()))}
    yield request("whole", modalities=sent), []
    packed = {name: {"data": data} for name, data in (*raw.items(), ("tabular", row["tabular"]))}
    yield msgspec.msgpack.encode(request("packed", modalities=packed)), [("content-type", b"application/msgpack")]
    yield request("partly", modalities={"video": sent["video"], "tabular": {"data": {}}}), []
    torn = {"data": base64.b64encode(raw["audio"][:-7]).decode()}
    yield request("torn", modalities={**sent, "audio": torn}), []
    wide = {"data": base64.b64encode(npy(np.zeros((5, 99), np.float32))).decode()}
    unknown = {"data": {"colour": "red"}}
    yield request("wide", modalities={**sent, "video": wide, "tabular": unknown}), []


def rows(engine: Engine, statement: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(statement).all())


def test_no_modality_tells_the_label_and_all_together_do(checkpoint: Checkpoint, trained: Path) -> None:
    found = read_annotations(trained.parent / "annotations.jsonl")
    unseen = AnnotatedExamples([row for row in found if row.split != "train"], checkpoint.labels)
    quality = evaluate(checkpoint.model, checkpoint.preprocessor, unseen, checkpoint.temperature)
    assert checkpoint.labels == LABELS
    assert quality["fused"].accuracy > 0.85
    for name in ALL:
        assert quality[name].accuracy < 0.4, "a quarter by chance"


def test_the_report_tells_of_each_modality(checkpoint: Checkpoint, trained: Path) -> None:
    report = json.loads((trained / "report.json").read_text())
    missing = {f"{name} missing" for name in ALL}
    alone = {f"{name} alone" for name in ALL}
    assert set(report["ablation"]) == missing | alone | {"audio is noise", "video is noise"}
    assert all(share["share"] < 0.75 for share in report["ablation"].values()), "half by chance"
    assert all(report["ablation"][name]["share"] < 0.4 for name in alone), "a quarter by chance"
    assert set(report["flips"]) == {f"another row's {name}" for name in ALL}
    assert report["retrieval"] is None
    facts = (checkpoint.card.modalities, set(checkpoint.fingerprints))
    assert facts == (ALL, {*ALL, "fused"})
    page = (trained / "report.html").read_text()
    assert "video is noise" in page


def test_sequences_and_tables_are_answered_alike_from_both_formats(served: dict[str, dict[str, Any]]) -> None:
    whole, packed = (served[name]["probabilities"] for name in ("whole", "packed"))
    assert (served["whole"]["route"], served["whole"]["degraded"]) == ("fused", False)
    assert packed == pytest.approx(whole, abs=1e-6)
    assert served["whole"]["prediction"] == values(np.random.default_rng(11))[1]
    assert served["partly"]["route"] == "fallback:video"
    assert served["wide"]["route"] == "fallback:audio"


def test_the_log_has_every_part_with_its_reason(served: dict[str, dict[str, Any]], engine: Engine) -> None:
    table = modality_log.c
    found = rows(engine, select(table.request_id, table.modality, table.status, table.reason, table.digest))
    told = {(row.request_id, row.modality): (row.status, row.reason) for row in found}
    assert all(told["whole", name] == ("present", None) for name in ALL)
    assert told["partly", "audio"] == ("missing", "not_sent")
    assert told["partly", "tabular"] == ("missing", "empty")
    assert told["torn", "audio"] == ("corrupt", "truncated")
    assert told["wide", "video"] == ("rejected", "features_differ")
    assert told["wide", "tabular"] == ("rejected", "no_known_column")
    digests = {(row.request_id, row.modality): row.digest for row in found}
    assert all(digests["whole", name] == digests["packed", name] for name in ALL), "whatever the format and order"
    assert served.keys() == set(SENT)


def test_summaries_and_baseline_have_the_quality_of_every_modality(
    served: dict[str, dict[str, Any]], engine: Engine
) -> None:
    assert served
    stored = rows(engine, select(summaries))
    (baseline,) = rows(engine, select(baselines))
    for name in ALL:
        own = [schema_bins.load(row.bins) for row in stored if row.modality == name]
        names = modalities()[name].quality_names
        assert sum(bins.rows for bins in own) >= 2
        assert {bins.columns["quality"].shape[1] for bins in own if bins.rows} == {len(names)}
        assert baseline.facts["quality"][name] == list(names)
        total = sum(bins.total("quality") for bins in own if bins.rows)
        assert np.isfinite(total).all()
    assert baseline.facts["pair"] == ["video", "audio"]
    fused = [schema_bins.load(row.bins) for row in stored if row.modality == "fused"]
    assert sum(bins.rows for bins in fused) == 2

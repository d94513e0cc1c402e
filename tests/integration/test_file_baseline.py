"""A baseline made by command from a file of labelled scenes, registered beside the one of the demo's checkpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import Engine, select
from typer.testing import CliRunner, Result

from demo.deployment import CHECKPOINT
from demo.examples import Example, example_stream
from inference import file_baseline, registry
from inference.baseline import Baseline
from inference.cli import app
from inference.models.card import load_card
from inference.models.checkpoint import Checkpoint, load_checkpoint
from migrations.connect import connect
from migrations.schema.monitoring import audit_log, baselines
from monitor import wiring
from monitor.tasks.baselines import Baselines
from tests.support.monitored import settings

ROWS = 160
CARD = load_card(CHECKPOINT)
VERSION = CARD.version
WHO = {"actor": "alice", "reason": "a new season"}


@pytest.fixture(scope="module")
def scenes() -> list[Example]:
    return list(islice(example_stream(123), ROWS))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(CHECKPOINT, torch.device("cpu"))


@pytest.fixture
def engine(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A database that knows the demo's checkpoint as champion."""
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", database)
    monkeypatch.setenv("FUSIONWATCH_TORCH_THREADS", "1")
    engine = connect(database, application="test")
    with engine.begin() as connection:
        registry.register(connection, CARD, Baseline.load(CHECKPOINT), "fusion")
        registry.adopt_if_none(connection, "fusion", VERSION, "test")
    yield engine
    engine.dispose()


@pytest.fixture
def people(engine: Engine, database: str) -> Baselines:
    return wiring.baselines(settings(database), engine)


def write(
    folder: Path, scenes: list[Example], light: float = 1.0, changes: Mapping[int, Mapping[str, Any]] | None = None
) -> Path:
    """A folder of scenes under `light`; `changes` are to fields of lines, by number from 0."""
    folder.mkdir()
    lines = []
    for scene in scenes:
        name = f"{scene.number}.png"
        Image.fromarray(np.rint(scene.image * light).astype(np.uint8)).save(folder / name)
        line = {"id": name, "image": name, "text": scene.caption, "label": CARD.labels[scene.label], "split": "test"}
        lines.append({**line, **(changes or {}).get(scene.number, {})})
    (folder / "annotations.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def baseline(data: Path, *more: str, checkpoint: Path = CHECKPOINT) -> Result:
    asked = ["baseline", "--checkpoint", str(checkpoint), "--data", str(data), *more]
    return CliRunner().invoke(app, [*asked, "--actor", WHO["actor"], "--reason", WHO["reason"]])


def kept(engine: Engine) -> dict[int, tuple[str, bool]]:
    with engine.connect() as connection:
        rows = connection.execute(select(baselines).order_by(baselines.c.number)).all()
    return {row.number: (row.origin, row.pinned) for row in rows}


def audits(engine: Engine) -> list[tuple[str, str, str]]:
    query = select(audit_log).where(audit_log.c.action != "adopt_champion").order_by(audit_log.c.audit_id)
    with engine.connect() as connection:
        return [(row.actor, row.action, row.details["reason"]) for row in connection.execute(query)]


def test_a_file_becomes_the_next_baseline_and_compares_with_the_checkpoints(
    engine: Engine, people: Baselines, scenes: list[Example], tmp_path: Path
) -> None:
    same = baseline(write(tmp_path / "same", scenes))
    assert same.exit_code == 0, same.output
    assert f"baseline 2 of {VERSION} is made: {ROWS} rows" in same.output
    assert kept(engine) == {1: ("checkpoint", False), 2: ("file", False)}
    dark = baseline(write(tmp_path / "dark", scenes, light=0.3), "--pin")
    assert f"baseline 3 of {VERSION} is made and is pinned: {ROWS} rows" in dark.output
    assert kept(engine)[3] == ("file", True)
    assert audits(engine) == [
        ("alice", action, "a new season") for action in ("baseline_made", "baseline_made", "baseline_pinned")
    ]
    facts = {each.number: each.facts for each in people.listed()}
    assert facts[2]["labelled"] == ROWS
    assert facts[2]["class_prior"] == pytest.approx(np.bincount([s.label for s in scenes]) / ROWS)
    assert facts[2]["accuracy"] == pytest.approx(facts[1]["accuracy"], abs=0.1)
    assert facts[3]["accuracy"] < facts[2]["accuracy"]
    verdicts = {
        number: {(each.detector, each.modality): str(each.verdict) for each in people.compare(1, number)}
        for number in (2, 3)
    }
    drifted = {
        number: {each for each, verdict in found.items() if verdict == "drift"} for number, found in verdicts.items()
    }
    assert drifted[2] == set()
    assert {("embedding_mmd", "image"), ("quality", "image")} <= drifted[3]
    assert ("embedding_mmd", "text") not in drifted[3]


def test_the_same_rows_are_taken_once_wherever_they_lie_and_in_whatever_order(
    engine: Engine, checkpoint: Checkpoint, scenes: list[Example], tmp_path: Path
) -> None:
    first = write(tmp_path / "first", scenes)
    again = write(tmp_path / "again", scenes[::-1])
    assert baseline(first).exit_code == 0
    repeated = baseline(again, "--pin")
    assert f"baseline 2 of {VERSION} holds these rows already and is pinned" in repeated.output
    assert kept(engine) == {1: ("checkpoint", False), 2: ("file", True)}
    told = [action for _, action, _ in audits(engine)]
    assert told == ["baseline_made", "baseline_pinned"]
    assert baseline(again, "--pin").exit_code == 0
    assert [action for _, action, _ in audits(engine)] == told, "nothing changed"


def test_runs_at_the_same_time_make_one_baseline(
    engine: Engine, checkpoint: Checkpoint, scenes: list[Example], tmp_path: Path
) -> None:
    chosen = file_baseline.choose(write(tmp_path / "data", scenes), CARD)
    both_asked = threading.Barrier(2)
    made = []

    def make() -> None:
        arrived = iter([both_asked])  # neither registers before both found nothing

        def wait(_rows: int) -> None:
            for barrier in arrived:
                barrier.wait(timeout=60)

        made.append(file_baseline.make(engine, checkpoint, chosen, pin=False, **WHO, progress=wait))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted((each.number, each.new) for each in made) == [(2, False), (2, True)]
    assert list(kept(engine)) == [1, 2]


def test_rows_the_model_was_trained_on_and_rows_without_a_modality_are_left_out(
    engine: Engine, scenes: list[Example], tmp_path: Path
) -> None:
    changes = {n: {"split": "train"} for n in range(20)} | {20: {"image": None}, 21: {"text": None}}
    data = write(tmp_path / "data", scenes, changes=changes)
    made = baseline(data)
    assert f"{ROWS - 22} rows" in made.output
    assert "left out: 20 rows of the splits train" in made.output
    assert "left out: 2 rows without all of image, text" in made.output
    few = baseline(data, "--split", "train")
    assert few.exit_code == 1
    assert "20 usable rows; expected 128 at least; 140 of the splits validation, test are left out" in few.output
    assert list(kept(engine)) == [1, 2]


def test_what_is_wrong_with_a_row_is_told_and_nothing_is_registered(
    engine: Engine, scenes: list[Example], tmp_path: Path
) -> None:
    data = write(tmp_path / "data", scenes, changes={4: {"label": "perhaps"}})
    (data / "7.png").write_bytes(b"no picture")
    refused = baseline(data)
    assert refused.exit_code == 1
    assert "annotations.jsonl:5: label: 'perhaps' is unknown; allowed: " + ", ".join(CARD.labels) in refused.output
    assert "annotations.jsonl:8: image: " in refused.output
    assert "Traceback" not in refused.output
    empty = baseline(tmp_path)
    assert empty.exit_code == 1
    assert "annotations.jsonl: cannot be read: No such file" in empty.output
    assert list(kept(engine)) == [1]


def test_a_version_that_no_worker_registered_is_refused(
    database: str, scenes: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", database)
    refused = baseline(write(tmp_path / "data", scenes))
    assert refused.exit_code == 1
    assert f"model version {VERSION} is not registered in this database: start a worker" in refused.output


def test_a_deleted_first_baseline_does_not_come_back_with_the_next_worker(
    engine: Engine, people: Baselines, scenes: list[Example], tmp_path: Path
) -> None:
    assert baseline(write(tmp_path / "data", scenes), "--pin").exit_code == 0
    people.drop(1, **WHO)
    with engine.begin() as connection:
        registry.register(connection, CARD, Baseline.load(CHECKPOINT), "fusion")
    assert kept(engine) == {2: ("file", True)}

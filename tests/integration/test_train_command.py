"""`fusionwatch-inference train`: from an annotations file to a checkpoint that the worker loads, killed or not."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from inference import cli_train
from inference.baseline import Baseline
from inference.cli import app
from inference.direct import DirectPredictor
from inference.models.card import WEIGHTS
from inference.models.checkpoint import load_checkpoint
from inference.predictor import Predictor
from inference.training import finish as end_of
from inference.training.annotated import AnnotatedExamples
from inference.training.annotations import read_annotations
from tests.support.annotated import write_annotations, write_config
from tests.support.interrupted_training import Killed

CPU = torch.device("cpu")
ROWS = 300
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}
Told = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed; its configuration and rows lie beside it."""
    folder = tmp_path_factory.mktemp("train")
    write_annotations(folder, ROWS)
    assert cli_train.run(write_config(folder), force=False) == cli_train.FINISHED
    return folder / "trained"


@pytest.fixture
def again(finished: Path, tmp_path: Path) -> Path:
    """The same configuration and rows in a folder of their own."""
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("trained"))
    return tmp_path / "train.toml"


def test_the_checkpoint_answers_in_the_workers_predictor(finished: Path) -> None:
    checkpoint = load_checkpoint(finished / "checkpoint", CPU)
    rows = read_annotations(finished.parent / "annotations.jsonl")
    example = AnnotatedExamples(rows, checkpoint.labels)[0]
    predictor = DirectPredictor(checkpoint.card, Predictor(checkpoint, CPU).run)
    (whole, blind) = predictor.predict([{"image": example.image, "text": example.caption}, {"text": example.caption}])
    assert whole.route == "fused"
    assert blind.route == "fallback:text"
    assert checkpoint.labels == ("consistent", "contradictory", "misleading")
    baseline = Baseline.load(checkpoint.folder)
    report = json.loads((finished / "report.json").read_text())
    assert baseline.reference["image"].rows == report["rows"]["validation"] + report["rows"]["test"]


def test_the_report_says_what_the_model_can_do(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert report["version"] == load_checkpoint(finished / "checkpoint", CPU).version
    assert sum(report["rows"].values()) == ROWS
    assert report["training"]["steps"] == 24
    assert [look["step"] for look in report["training"]["looks"]] == [8, 16, 24]
    fused = report["fused"]
    assert report["evaluated_on"] == "test"
    assert fused["n"] == report["rows"]["test"] == sum(map(sum, fused["confusion"]))
    low, high = fused["accuracy"]["interval"]
    assert 0.6 < low < fused["accuracy"]["share"] <= high, "the caption's first word tells the label"
    assert report["by"] == {"source": {"drawn": fused["accuracy"]}, "language": {"en": fused["accuracy"]}}
    assert set(report["ablation"]) == {"image missing", "text missing", "image is noise", "text is blank"}
    assert report["ablation"]["text missing"]["share"] < 0.6 < report["ablation"]["image missing"]["share"]
    assert report["flips"]["another row's text"]["share"] > 0.3
    assert report["retrieval"]["image_to_text"]["candidates"] == fused["n"]
    assert f"Evaluation of {report['version']}" in (finished / "report.html").read_text()
    assert not (finished / "state.safetensors").exists()


def test_a_finished_run_is_replaced_by_force_only(finished: Path, again: Path, capsys: Told) -> None:
    shutil.copytree(finished, again.parent / "trained")
    assert cli_train.run(again, force=False) == cli_train.FAILED
    assert "holds a finished run; choose another folder, or --force to replace it" in capsys.readouterr().err
    write_config(again.parent, steps=2, evaluate_every=2)
    assert cli_train.run(again, force=True) == cli_train.FINISHED
    assert json.loads((again.parent / "trained" / "report.json").read_text())["training"]["steps"] == 2


def test_a_killed_run_goes_on_to_the_same_end(finished: Path, again: Path, capsys: Told) -> None:
    command = [sys.executable, "-m", "tests.support.interrupted_training", str(again), "11"]
    killed = subprocess.run(command, capture_output=True, text=True, env=ALONE, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert int(load_file(again.parent / "trained" / "state.safetensors")["at"]) == 8
    assert cli_train.run(again, force=False) == cli_train.FINISHED
    assert "step 8:" not in capsys.readouterr().err, "what was done is not done again"
    same_end(finished, again.parent / "trained")


def test_an_interrupted_run_saves_and_says_how_to_go_on(
    finished: Path, again: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Killed, "at", 11)
    monkeypatch.setattr(Killed, "by", signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(cli_train, "Terminal", Killed)
        assert cli_train.run(again, force=False) == cli_train.INTERRUPTED
    assert "stopped after step 11; the same command goes on from there" in capsys.readouterr().err
    assert not (again.parent / "trained" / "checkpoint").exists()
    write_config(again.parent, learning_rate=1e-4)
    assert cli_train.run(again, force=False) == cli_train.FAILED
    told = capsys.readouterr().err
    assert "holds an unfinished run that differs in training.learning_rate; choose another folder, or --force" in told
    write_config(again.parent)
    assert cli_train.run(again, force=False) == cli_train.FINISHED
    same_end(finished, again.parent / "trained")


def test_a_run_that_goes_on_is_one_run_in_mlflow(
    finished: Path, again: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient  # seconds to import, which every process that collects tests would spend

    write_config(again.parent, {"tracking": {"mlflow": "on", "experiment": "captions"}})
    monkeypatch.setattr(Killed, "at", 19)
    monkeypatch.setattr(Killed, "by", signal.SIGINT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with monkeypatch.context() as patched:
        patched.setattr(cli_train, "Terminal", Killed)
        assert cli_train.run(again, force=False) == cli_train.INTERRUPTED
    client = MlflowClient(f"sqlite:///{again.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("captions")
    assert experiment is not None
    (stopped,) = client.search_runs([experiment.experiment_id])
    assert stopped.info.status == "KILLED"
    assert cli_train.run(again, force=False) == cli_train.FINISHED
    assert "tracked" not in capsys.readouterr().err, "nothing went wrong"
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (stopped.info.run_id, "FINISHED")
    report = figures(again.parent / "trained")
    assert run.data.params["training.learning_rate"] == "0.005"
    assert run.data.params["model.text.config.hidden_size"] == "32"
    assert run.data.metrics["accuracy"] == report["fused"]["accuracy"]["share"]
    assert run.data.tags["fusionwatch.version"] == report["version"]
    for key in ("loss", "validation_loss", "validation_accuracy", "epoch"):
        curve = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
        assert curve == [(look["step"], look[key]) for look in report["training"]["looks"]], "each look once"
    files = Path(url2pathname(urlparse(run.info.artifact_uri).path))
    assert json.loads((files / "confusion.json").read_text())["rows are true"] == report["fused"]["confusion"]
    for name in ("report.json", "report.html", "checkpoint/manifest.json"):
        assert (files / name).read_bytes() == (again.parent / "trained" / name).read_bytes()


def test_mlflow_that_is_asked_for_and_missing_or_away_is_told_before_anything_is_trained(
    again: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(again.parent, {"tracking": {"mlflow": "on"}}, steps=2, warmup=1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgres://user:secret@nowhere/db")
    assert cli_train.run(again, force=False) == cli_train.FAILED
    told = capsys.readouterr().err
    assert "MLflow at postgres://nowhere/db cannot be used" in told
    assert "secret" not in told
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert cli_train.run(again, force=False) == cli_train.FAILED
    assert "install fusionwatch[training], or set tracking.mlflow to off" in capsys.readouterr().err
    assert not (again.parent / "trained" / "report.json").exists()
    (again.parent / "trained" / "report.json").write_text("{}")
    write_config(again.parent, {"tracking": {"mlflow": "auto"}}, steps=2, warmup=1)
    assert cli_train.run(again, force=False) == cli_train.FAILED
    told = capsys.readouterr().err
    assert "not tracked: MLflow cannot be imported" in told, "which alone ends nothing"
    assert "holds a finished run" in told


def test_two_processes_come_to_the_same_end_as_one(finished: Path, again: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "-m", "inference.cli", "train", "--config", str(again)]
    done = subprocess.run(command, capture_output=True, text=True, env=ALONE, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (figures(folder)["training"]["looks"] for folder in (finished, again.parent / "trained"))
    assert [look["step"] for look in two] == [8, 16, 24]
    for alone, together in zip(one, two, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-3)
        assert together["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-2, abs=1e-3)


def test_a_run_that_gets_no_better_ends_early_and_is_finished_later_without_more_steps(
    again: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    # at this rate no weight changes at all, so that every look sees the same loss
    write_config(again.parent, learning_rate=1e-30, evaluate_every=1, patience=2, steps=50)
    with monkeypatch.context() as patched:
        patched.setattr(end_of, "seal_with_baseline", no_room)
        assert cli_train.run(again, force=False) == cli_train.FAILED
    assert "No space left on device" in capsys.readouterr().err
    assert cli_train.run(again, force=False) == cli_train.FINISHED
    assert "step" not in capsys.readouterr().err.split("version")[0], "nothing more was trained"
    training = figures(again.parent / "trained")["training"]
    assert (training["ended"], training["steps"], training["best_step"]) == ("early", 3, 1)


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_checkpoint_is_trained_on_with_everything_switched_on(finished: Path, tmp_path: Path) -> None:
    path = write_annotations(tmp_path, 220, splits=("train", "validation", "validation"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, part in ((0, "image"), (3, "text"), (1, "image"), (4, "text")):
        del rows[number][part]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    sections: dict[str, dict[str, Any]] = {
        "data": {"annotations": "annotations.jsonl", "sampling": "balanced", "class_weights": "balanced"},
        "augment": {"flip": 0.5, "brightness": 0.2, "crop": 0.1, "words": 0.1},
        "model": {"checkpoint": str(finished / "checkpoint")},
    }
    config = write_config(
        tmp_path,
        sections,
        steps=6,
        thaw=2,
        evaluate_every=3,
        encoder_rate=0.1,
        balance="modulated",
        contrastive_weight=0.1,
        contrastive_label="consistent",
    )
    assert cli_train.run(config, force=False) == cli_train.FINISHED
    report = figures(tmp_path / "trained")
    assert report["evaluated_on"] == "validation"
    assert report["rows"]["test"] == 0
    assert report["ablation"]["text missing"]["n"] == report["rows"]["validation"] - 1, "one row has no picture"
    consistent = sum(row["label"] == "consistent" and row["split"] == "validation" and len(row) == 6 for row in rows)
    assert report["retrieval"]["image_to_text"]["n"] == consistent
    before, after = (load_checkpoint(folder / "checkpoint", CPU) for folder in (finished, tmp_path / "trained"))
    assert after.labels == before.labels
    assert all(after.fingerprints[name] != before.fingerprints[name] for name in ("image", "text", "fused"))


def test_families_and_seeds_are_told_in_one_table_and_not_trained_twice(again: Path, capsys: Told) -> None:
    write_config(again.parent, steps=2, warmup=1, evaluate_every=2)
    asked = ["ablate", "--config", str(again), "--seed", "0", "--seed", "4"]
    asked += ["--family", "cross_attention", "--family", "image_only"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    assert "cross_attention, seed 4: 2 of 4" in told.stderr
    folder = again.parent / "trained-ablation"
    row, blind = json.loads((folder / "ablation.json").read_text())
    assert (blind["family"], blind["image missing"]["mean"]) == ("image_only", None)
    assert blind["text missing"] == blind["accuracy"], "it never sees a text"
    reports = [figures(folder / f"cross_attention-{seed}") for seed in (0, 4)]
    assert reports[0]["version"] != reports[1]["version"]
    accuracies = [report["fused"]["accuracy"]["share"] for report in reports]
    assert row["accuracy"] == {
        "mean": pytest.approx(np.mean(accuracies)),
        "sd": pytest.approx(np.std(accuracies, ddof=1)),
    }
    assert f"{row['accuracy']['mean']:.3f} ± {row['accuracy']['sd']:.3f}" in told.stdout
    before = (folder / "cross_attention-0" / "report.json").stat().st_mtime_ns
    once_more = CliRunner().invoke(app, asked)
    assert once_more.stdout == told.stdout
    assert "seed" not in once_more.stderr
    assert (folder / "cross_attention-0" / "report.json").stat().st_mtime_ns == before
    write_config(again.parent, steps=3, warmup=1, evaluate_every=2)
    changed = CliRunner().invoke(app, asked)
    assert changed.exit_code == cli_train.FAILED
    assert "holds a finished run of another configuration or of other rows" in capsys.readouterr().err + changed.stderr


def test_settings_that_do_not_fit_the_model_end_in_one_line(again: Path, capsys: Told) -> None:
    sizes = {"model.text.config": {"model_type": "bert", "hidden_size": 64, "num_attention_heads": 2}}
    write_config(again.parent, sizes, contrastive_weight=0.5)
    assert cli_train.run(again, force=False) == cli_train.FAILED
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("contrastive term: image has embeddings of 32 numbers and text of 64; expected a shared")


def test_a_picture_in_two_splits_ends_the_run_before_it_begins(tmp_path: Path, capsys: Told) -> None:
    path = write_annotations(tmp_path, 6, splits=("train", "validation"))
    first, *others = (json.loads(line) for line in path.read_text().splitlines())
    rows = [first, *others[:-1], {**others[-1], "image": first["image"]}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert cli_train.run(write_config(tmp_path), force=False) == cli_train.REFUSED
    assert "one picture in several splits: 's0' (line 1, train), 's5' (line 6, validation)" in capsys.readouterr().err
    assert not (tmp_path / "trained").exists()


def test_what_could_not_be_finished_is_not_begun(tmp_path: Path, capsys: Told) -> None:
    write_annotations(tmp_path, 60)
    assert cli_train.run(write_config(tmp_path), force=False) == cli_train.REFUSED
    assert "validation and test rows with image and text; the baseline needs 128" in capsys.readouterr().err
    assert not (tmp_path / "trained").exists()


def test_a_folder_of_something_else_is_left_alone(again: Path, capsys: Told) -> None:
    (again.parent / "trained").mkdir()
    (again.parent / "trained" / "thesis.tex").write_text("years of work")
    for force in (False, True):
        assert cli_train.run(again, force=force) == cli_train.FAILED
    assert "holds files of something else" in capsys.readouterr().err
    assert (again.parent / "trained" / "thesis.tex").exists()


def same_end(folder: Path, other: Path) -> None:
    one, two = (load_file(each / "checkpoint" / WEIGHTS) for each in (folder, other))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-3, rtol=2e-3, msg=name)
    for before, after in zip(figures(folder)["training"]["looks"], figures(other)["training"]["looks"], strict=True):
        assert after == pytest.approx(before, rel=1e-4)


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found

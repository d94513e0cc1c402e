"""A student that learns from a teacher, and a checkpoint in int8: each with what it costs beside the model before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from inference import cli_train
from inference.baseline import Baseline
from inference.cli import app
from inference.models.card import WEIGHTS
from inference.models.checkpoint import load_checkpoint
from inference.training.config import ConfigError, read_config
from inference.training.objective import Teacher
from tests.support.annotated import SMALL, write_annotations, write_config
from tests.support.tiny_model import random_batch, small_model

CPU = torch.device("cpu")
Told = pytest.CaptureFixture[str]


SHORT: dict[str, Any] = {"steps": 16, "evaluate_every": 16}


def rows_of(teacher: Path) -> dict[str, Any]:
    """The data section with the rows that the teacher was trained on, dealt as they were."""
    return {"annotations": str(teacher.parents[1] / "annotations.jsonl"), "validation_share": 0.3, "test_share": 0.3}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a finished run; rows and configuration lie two folders above."""
    folder = tmp_path_factory.mktemp("teacher")
    write_annotations(folder, 240)
    assert cli_train.run(write_config(folder, **SHORT), force=False) == cli_train.FINISHED
    return folder / "trained" / "checkpoint"


def test_the_soft_loss_is_the_softened_divergence_and_zero_for_the_same_answers() -> None:
    model, batch = small_model(), random_batch()
    taught = Teacher(model, temperature=3.0, weight=0.5)
    with torch.no_grad():
        own = model(batch).logits
    student = own + torch.tensor([[0.0, 1.0, -2.0]])
    p, q = (own / 3).softmax(1), (student / 3).softmax(1)
    torch.testing.assert_close(taught.soft_loss(student, batch), 9 * (p * (p / q).log()).sum(1))
    torch.testing.assert_close(taught.soft_loss(own, batch), torch.zeros(len(own)), atol=1e-6, rtol=0)


def test_a_student_learns_from_its_teacher_and_both_are_compared(teacher: Path, tmp_path: Path, capsys: Told) -> None:
    tiny = SMALL | {"hidden_size": 16, "intermediate_size": 16}
    sections: dict[str, dict[str, Any]] = {
        "data": rows_of(teacher),
        "distill": {"teacher": str(teacher), "weight": 1.0, "temperature": 1.0},
        "model.image.config": {"model_type": "vit", "image_size": 64, "patch_size": 16, **tiny},
        "model.text.config": {"model_type": "bert", **tiny},
    }
    assert cli_train.run(write_config(tmp_path, sections, **SHORT), force=False) == cli_train.FINISHED
    told = json.loads((tmp_path / "trained" / "report.json").read_text())
    both = told["distilled"]
    student = load_checkpoint(tmp_path / "trained" / "checkpoint", CPU)
    before = load_checkpoint(teacher, CPU)
    assert (both["before"]["version"], both["after"]["version"]) == (before.version, student.version)
    assert both["after"]["accuracy"] == told["fused"]["accuracy"]
    assert both["same_answers"]["share"] > 0.6, "the teacher alone, without any label, taught it"
    assert both["after"]["megabytes"] < both["before"]["megabytes"]
    assert both["after"]["ms_alone"] > 0
    assert student.preprocessor.tokenizer.get_vocab() == before.preprocessor.tokenizer.get_vocab()
    shown = capsys.readouterr().out
    assert "teacher" in shown
    assert f"{both['after']['accuracy']['share']:.3f}" in shown
    assert "Beside its teacher" in (tmp_path / "trained" / "report.html").read_text()
    sections["data"]["labels"] = ["consistent", "misleading", "contradictory", "other"]
    assert cli_train.run(write_config(tmp_path, sections), force=True) == cli_train.REFUSED


def test_encoders_of_a_checkpoint_serve_another_fusion_and_keep_their_values(teacher: Path, tmp_path: Path) -> None:
    sections: dict[str, dict[str, Any]] = {
        "data": rows_of(teacher),
        "model": {"family": "early", "encoders": str(teacher)},
        "model.options": {"fusion_size": 16},
    }
    config = write_config(tmp_path, sections, steps=2, thaw=2, warmup=1)
    assert cli_train.run(config, force=False) == cli_train.FINISHED
    made, donor = (load_checkpoint(folder, CPU) for folder in (tmp_path / "trained" / "checkpoint", teacher))
    assert made.family.name == "fusion_early"
    for name in ("image", "text"):
        assert made.fingerprints[name] == donor.fingerprints[name], "embeddings of both can be compared"
    assert made.fingerprints["fused"] != donor.fingerprints["fused"]
    write_config(tmp_path, {"model": {"encoders": str(teacher), "checkpoint": str(teacher)}})
    with pytest.raises(ConfigError, match="checkpoint, encoders: the weights of one of them would be lost"):
        read_config(config)


def test_a_checkpoint_in_int8_is_smaller_and_says_what_it_cost(teacher: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "int8", tmp_path / "costs.json"
    asked = ["quantize", "--checkpoint", str(teacher), "--config", str(teacher.parents[1] / "train.toml")]
    asked += ["--out", str(out), "--json", str(figures)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    told = json.loads(figures.read_text())
    loaded = load_checkpoint(out, CPU)
    assert told["after"]["version"] == loaded.version != told["before"]["version"]
    assert told["after"]["megabytes"] == (out / WEIGHTS).stat().st_size / 1e6 < told["before"]["megabytes"]
    assert told["same_answers"]["share"] > 0.9
    assert Baseline.load(out).facts["encoders"] == loaded.fingerprints
    assert f"{told['after']['accuracy']['share']:.3f}" in done.stdout
    once_more = CliRunner().invoke(app, asked)
    assert once_more.exit_code == 2
    assert "is there already; choose another folder" in once_more.stderr
    again = CliRunner().invoke(app, [*asked[:2], str(out), *asked[3:5], "--out", str(tmp_path / "twice")])
    assert again.exit_code == 2
    assert "is in int8 already" in again.stderr

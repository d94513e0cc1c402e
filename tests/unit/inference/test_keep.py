"""What a training run keeps on disk, and how it is told to stop."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from inference.cli_train import Stop
from inference.training.annotated import Metadata, Row
from inference.training.config import TrainConfig
from inference.training.keep import FolderError, Kept, OutputFolder

ROWS = [Row(1, "r1", None, None, "a red circle", "yes", "train", Metadata())]


def config(folder: Path, seed: int = 0) -> TrainConfig:
    content = {"output": folder, "data": {"annotations": "rows.jsonl"}, "training": {"seed": seed}}
    return TrainConfig.model_validate(content)


def test_a_state_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    assert folder.load() is None
    kept = Kept({"model.a": torch.arange(3.0), "at": torch.tensor(7)}, {"looks": [{"step": 1}], "seconds": 2.5})
    folder.save(kept)
    (tmp_path / "state.safetensors.part").write_bytes(b"half of the next one")
    again = folder.load()
    assert again is not None
    assert again.facts == kept.facts
    assert all(torch.equal(again.tensors[name], value) for name, value in kept.tensors.items())


def test_a_damaged_state_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"not tensors")
    with pytest.raises(FolderError, match=r"state\.safetensors cannot be read: .*; use --force to start over"):
        OutputFolder(tmp_path).load()


def test_a_run_goes_on_with_the_same_rows_and_settings_only(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    folder.open(config(tmp_path), ROWS, force=False)
    folder.open(config(tmp_path), ROWS, force=False)
    folder.save(Kept({"at": torch.tensor(1)}, {}))
    with pytest.raises(FolderError, match=r"an unfinished run that differs in training\.seed; "):
        folder.open(config(tmp_path, seed=1), ROWS, force=False)
    other = [Row(1, "r1", None, None, "a blue circle", "yes", "train", Metadata())]
    with pytest.raises(FolderError, match="differs in the annotated rows; choose another folder, or --force"):
        folder.open(config(tmp_path), other, force=False)
    assert folder.load() is not None, "what is refused stays as it is"
    folder.open(config(tmp_path), other, force=True)
    assert folder.load() is None


def test_the_first_signal_asks_and_the_second_one_ends(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    before = signal.getsignal(signal.SIGINT)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the runner of the tests has
    with Stop() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        assert "stopping after this step; once more ends it at once" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

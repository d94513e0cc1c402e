"""The model in a process of its own: answers in order, survives failed batches, and never outlives its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from inference.collate import collate
from inference.direct import DirectPredictor
from inference.errors import Code
from inference.model_io import ModelDiedError, ModelFailedError, ModelInput, ModelOptions
from inference.model_process import ModelProcess
from inference.models.card import CARD, CheckpointError, ModelCard, load_card
from inference.models.checkpoint import load_checkpoint
from inference.predictor import Predictor
from tests.support import faulty_family
from tests.support.worker import wait_until

MODULES = ("tests.support.faulty_family",)
OPTIONS = ModelOptions(device="cpu", torch_threads=1, family_modules=MODULES)
SECRET = "FUSIONWATCH_HMAC_KEY"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "faulty"
    faulty_family.save(path)
    return path


@pytest.fixture(scope="module")
def card(folder: Path) -> ModelCard:
    return load_card(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[ModelProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRET, "not for the model")
        process = ModelProcess(folder, OPTIONS)
        process.start()
    yield process
    process.close()


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (40, 30, 3), np.uint8)


def batch(card: ModelCard, *texts: str | None) -> ModelInput:
    """One row for each text; rows of None have a picture only, every third row has no picture."""
    rows = []
    for index, text in enumerate(texts):
        values = {} if text is None else {"text": text}
        rows.append(card.prepare(values if index % 3 == 2 else {**values, "image": picture(index)}))
    return collate(rows, card.blanks)


def test_outputs_come_in_order_and_are_those_of_the_same_model_in_process(model: ModelProcess, card: ModelCard) -> None:
    batches = [batch(card, "a red circle", None, "blue"), batch(card, "a"), batch(card, "left of a square", "red")]
    here = Predictor(load_checkpoint(card.folder, torch.device("cpu"), MODULES), torch.device("cpu"))
    for each in batches:
        model.submit(each)
    assert model.outstanding == 3
    for each in batches:
        output, expected = model.result(), here.run(each)
        assert np.allclose(output.probabilities, expected.probabilities, atol=1e-6)
        assert output.embeddings.keys() == expected.embeddings.keys() == {"image", "text", "fused"}
        assert all(np.allclose(rows, expected.embeddings[name], atol=1e-6) for name, rows in output.embeddings.items())
        assert output.agreement.tolist() == [-1] * len(each)
        assert output.encode_ms["all"] > 0.0  # this family runs in one step
    assert model.outstanding == 0
    assert not model.ready(0.0)


def test_a_batch_that_runs_out_of_memory_fails_alone(model: ModelProcess, card: ModelCard) -> None:
    pid = model.pid
    for text in ("red", "oom", "blue"):
        model.submit(batch(card, text))
    assert model.result().probabilities.shape == (1, 3)
    with pytest.raises(ModelFailedError, match="OutOfMemoryError"):
        model.result()
    assert model.result().probabilities.shape == (1, 3)
    assert (model.pid, model.outstanding) == (pid, 0)


def test_a_row_that_is_not_finite_fails_alone(model: ModelProcess, card: ModelCard) -> None:
    predictions = DirectPredictor(card, model.run).predict([{"text": text} for text in ("red", "nan", "left")])
    assert [prediction.error for prediction in predictions] == [None, Code.MODEL_NOT_FINITE, None]


def test_signals_for_the_worker_leave_the_model_running(model: ModelProcess, card: ModelCard) -> None:
    assert model.pid is not None
    for name in (signal.SIGINT, signal.SIGTERM):
        os.kill(model.pid, name)
    assert model.run(batch(card, "red")).probabilities.shape == (1, 3)
    assert model.alive


def test_it_can_be_told_among_processes_and_knows_no_secrets(model: ModelProcess, card: ModelCard) -> None:
    process = psutil.Process(model.pid)
    assert str(card.folder) in process.cmdline()
    assert process.name().startswith("fusion-model")
    assert SECRET not in process.environ()
    assert "PATH" in process.environ()


def test_memory_of_a_pass_is_kept_for_the_next(folder: Path, card: ModelCard) -> None:
    faults = {}
    for threshold in ("4096", None):  # what an operator sets wins
        with pytest.MonkeyPatch.context() as patch:
            if threshold:
                patch.setenv("MALLOC_MMAP_THRESHOLD_", threshold)
            process = ModelProcess(folder, OPTIONS)
            process.start()
        try:
            faults[threshold] = page_faults(process, card)
        finally:
            process.close()
    assert faults[None] < faults["4096"] / 4


def page_faults(process: ModelProcess, card: ModelCard) -> int:
    """How often pages were asked of the system during 20 passes."""
    rows = batch(card, *["red"] * 16)
    for _ in range(5):
        process.run(rows)
    before = minor_faults(process)
    for _ in range(20):
        process.run(rows)
    return minor_faults(process) - before


def minor_faults(process: ModelProcess) -> int:
    """The tenth field of proc(5)'s stat."""
    return int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_a_process_that_is_slow_to_answer_is_waited_for(model: ModelProcess, card: ModelCard) -> None:
    model.submit(batch(card, "red"))
    assert model.ready(60)
    assert model.result(60).probabilities.shape == (1, 3)


def test_a_process_that_hangs_is_killed_and_frees_who_waits_to_submit(folder: Path, card: ModelCard) -> None:
    process = ModelProcess(folder, OPTIONS)
    process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    lost: list[Exception] = []

    def submit() -> None:
        try:
            while True:  # until the stream is full, and then it blocks
                process.submit(batch(card, *["red circle"] * 64))
        except ModelDiedError as error:
            lost.append(error)

    waiting = threading.Thread(target=submit)
    waiting.start()
    wait_until(lambda: process.outstanding > 0, 60, "nothing was sent")
    with pytest.raises(ModelDiedError, match=r"was killed: no output after 0\.5 s"):
        process.result(0.5)
    waiting.join(60)
    assert not waiting.is_alive()
    assert len(lost) == 1
    process.restart()
    assert process.run(batch(card, "red")).probabilities.shape == (1, 3)
    process.close()


def test_a_death_loses_what_is_outstanding_and_a_restart_serves_again(model: ModelProcess, card: ModelCard) -> None:
    before = model.run(batch(card, "red circle")).probabilities
    for text in ("die", "blue"):
        model.submit(batch(card, text))
    with pytest.raises(ModelDiedError, match=r"ended with -9; 2 batches are lost"):
        model.result()
    with pytest.raises(ModelDiedError):
        model.result()
    with pytest.raises(ModelDiedError):
        model.submit(batch(card, "red"))
    assert not model.alive
    model.restart()
    assert model.outstanding == 0
    assert np.array_equal(model.run(batch(card, "red circle")).probabilities, before)


def test_close_ends_it_even_in_the_middle_of_a_pass(folder: Path, card: ModelCard) -> None:
    process = ModelProcess(folder, OPTIONS)
    process.start()
    pid = process.pid
    process.submit(batch(card, "hang"))
    process.close()
    process.close()
    assert pid is not None
    assert not psutil.pid_exists(pid)
    with pytest.raises(ModelDiedError, match="does not run"):
        process.submit(batch(card, "red"))


@pytest.mark.parametrize(
    ("start_seconds", "message"), [(300.0, "RuntimeError: .* output is not finite"), (0.01, r"not ready after 0\.01 s")]
)
def test_a_model_that_cannot_run_says_why(tmp_path: Path, start_seconds: float, message: str) -> None:
    faulty_family.save(tmp_path / "model", broken=True)
    process = ModelProcess(tmp_path / "model", replace(OPTIONS, start_seconds=start_seconds))
    with pytest.raises(RuntimeError, match=message):
        process.start()
    assert not process.alive


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    faulty_family.save(tmp_path / "model")
    (tmp_path / "model" / CARD).write_text("{}")
    with pytest.raises(CheckpointError, match=r"checkpoint\.json: expected SHA-256"):
        ModelProcess(tmp_path / "model", OPTIONS).start()


PARENT = """
import sys, time
from pathlib import Path
from inference import log
from inference.collate import collate
from inference.model_io import ModelFailedError, ModelOptions
from inference.model_process import ModelProcess
from inference.models.card import load_card

log.configure("INFO")
folder = Path(sys.argv[1])
card = load_card(folder)
model = ModelProcess(folder, ModelOptions(device="cpu", family_modules=("tests.support.faulty_family",)))
model.start()
try:
    model.run(collate([card.prepare({"text": "oom"})], card.blanks))
except ModelFailedError:
    model.submit(collate([card.prepare({"text": "hang"})], card.blanks))
    print(model.pid, flush=True)
    time.sleep(600)
"""


def gone(pid: int) -> bool:
    """Whether a process has ended; where nobody reaps orphans it stays behind as a zombie."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_ends_when_its_parent_is_killed_and_logs_like_it(folder: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stderr is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    wait_until(lambda: gone(pid), 60, "the model process outlives its parent")
    lines = [json.loads(line) for line in parent.stderr.read().splitlines()]
    parent.stdout.close()
    parent.stderr.close()
    failure = next(line for line in lines if line["message"] == "forward pass failed")
    assert (failure["level"], failure["error"]) == ("error", "OutOfMemoryError")
    assert any(line["message"] == "model process ready" and line["pid"] == pid for line in lines)


def test_what_the_front_is_made_of_imports_no_torch() -> None:
    """In a fresh interpreter, the checkpoint's card and one request's way to a batch included."""
    code = """
import sys
from pathlib import Path
import numpy as np
import inference.cli, inference.direct, inference.judge, inference.serving, inference.wiring
from inference.collate import collate
from inference.modalities.base import modalities
from inference.models.card import load_card
card = load_card(Path(sys.argv[1]))
row = card.prepare({"image": np.zeros((9, 9, 3), np.uint8), "text": "a red circle"})
assert len(collate([row], card.blanks)) == 1
assert modalities().keys() >= {"image", "text"}
print(sorted({"torch", "transformers"} & sys.modules.keys()))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, "demo/checkpoint"], capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr

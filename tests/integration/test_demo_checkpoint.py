"""The committed demo checkpoint does its task, falls back as documented, and is hurt by the new camera."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

import demo
from demo.cameras import NEW_CAMERA, Camera, unchanged
from demo.captions import LABELS
from demo.examples import example_stream, labelled
from inference.models.checkpoint import Checkpoint, load_checkpoint
from inference.training.data import LabelledExample
from inference.training.evaluate import Evaluation, evaluate

FOLDER = Path(demo.__file__).parent / "checkpoint"
FRESH = 987_654  # a stream that neither training nor calibration has seen


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(FOLDER, torch.device("cpu"))


def fresh(camera: Camera, count: int) -> list[LabelledExample]:
    return [labelled(example) for example in islice(example_stream(FRESH, camera), count)]


@pytest.fixture(scope="module")
def quality(checkpoint: Checkpoint) -> dict[str, Evaluation]:
    return evaluate(checkpoint.model, checkpoint.preprocessor, fresh(unchanged, 600), checkpoint.temperature)


def test_is_small_and_complete(checkpoint: Checkpoint) -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 5_000_000
    assert checkpoint.labels == LABELS
    assert set(checkpoint.fingerprints) >= {"image", "text", "fused"}


def test_held_out_accuracy_and_calibration(quality: dict[str, Evaluation]) -> None:
    assert quality["fused"].accuracy >= 0.95
    assert min(quality["fused"].per_class) >= 0.90
    assert quality["fused"].ece < 0.03


def test_one_modality_alone_knows_little_and_says_so(quality: dict[str, Evaluation]) -> None:
    """Image alone is at chance (1/3); text alone has the hedge word (Bayes 0.467). Four standard errors: 0.08."""
    assert quality["image"].accuracy == pytest.approx(1 / 3, abs=0.08)
    assert quality["text"].accuracy == pytest.approx(7 / 15, abs=0.08)
    assert quality["image"].confidence < 0.45
    assert quality["text"].confidence < 0.55


def test_new_camera_hurts_without_lowering_confidence(checkpoint: Checkpoint) -> None:
    rows = fresh(NEW_CAMERA, 600)
    hurt = evaluate(checkpoint.model, checkpoint.preprocessor, rows, checkpoint.temperature, ["fused"])["fused"]
    assert hurt.accuracy < 0.80
    assert hurt.confidence > 0.88
    assert hurt.ece > 0.08

"""A checkpoint's card: what the front reads of a folder, with the model in it or without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.collate import collate
from inference.direct import DirectPredictor
from inference.judge import route
from inference.modalities.base import UNREAD
from inference.models import pass_through
from inference.models.card import CARD, CheckpointError, load_card, write_manifest
from inference.models.checkpoint import load_checkpoint
from inference.predictor import Predictor
from inference.summarise import WindowSummaries
from tests.support.tiny_model import LABELS, small_checkpoint

CPU = torch.device("cpu")
PRIORS = {"a": 0.5, "b": 0.3, "c": 0.2}


def test_the_card_is_what_the_checkpoint_has(tmp_path: Path) -> None:
    checkpoint = small_checkpoint(tmp_path / "small")
    card = load_card(tmp_path / "small")
    assert (card.version, card.family, card.labels) == (checkpoint.version, "fusion_cross_attention", LABELS)
    assert (card.temperature, card.raw, card.modalities) == (1.25, False, ("image", "text"))
    assert card.fingerprints == checkpoint.fingerprints
    assert card.quality == {"image": 5, "text": 4}
    assert card.blanks["image"].inputs["pixels"].shape == (32, 32, 3)
    assert card.blanks["text"].inputs["input_ids"].shape == (2,)


def test_a_modality_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    small_checkpoint(tmp_path / "small")
    path = tmp_path / "small" / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprints": {"smell": "x", "fused": "y"}}))
    write_manifest(tmp_path / "small")
    with pytest.raises(CheckpointError, match=r"expected modalities among .*found \['smell'\]"):
        load_card(tmp_path / "small")


def test_a_model_that_is_none_answers_the_priors(tmp_path: Path) -> None:
    version = pass_through.save(tmp_path / "none", PRIORS)
    checkpoint = load_checkpoint(tmp_path / "none", CPU)
    card = checkpoint.card
    assert (card.version, card.raw, card.preprocessor, card.labels) == (version, True, None, ("a", "b", "c"))
    assert set(card.modalities) >= {"image", "text"}
    predictor = Predictor(checkpoint, CPU)
    predictor.warm_up()
    # nothing is decoded for it: values are whatever came
    inputs: list[dict[str, Any]] = [
        dict.fromkeys(card.modalities, b"as it came"),
        {"image": b"no picture"},
        {"text": ""},
    ]
    found = DirectPredictor(card, predictor.run).predict(inputs)
    for prediction in found:
        assert prediction.probabilities == pytest.approx([0.5, 0.3, 0.2], abs=1e-6)
        assert (prediction.label, prediction.error, prediction.agreement) == ("a", None, None)
        assert not prediction.embeddings
        assert not prediction.quality
    assert [prediction.route for prediction in found] == ["fused", "fallback:image", "fallback:text"]
    output = predictor.run(collate([card.prepare(values) for values in inputs], card.blanks))
    assert output.embeddings == {}
    assert not output.skipped.any()


def test_a_model_that_is_none_has_a_place_in_the_summaries(tmp_path: Path) -> None:
    pass_through.save(tmp_path / "none", PRIORS)
    card = load_card(tmp_path / "none")
    assert card.quality == {}
    summaries = WindowSummaries({}, 60, 8, "w1")
    summaries.add_version(card.version, len(card.labels), card.fingerprints, None, card.quality)
    assert summaries.preview([]).records == {}


@pytest.mark.parametrize("priors", [{}, {"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.4}])
def test_priors_that_are_no_probabilities_are_refused(tmp_path: Path, priors: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive priors that sum to 1"):
        pass_through.save(tmp_path / "none", priors)
    assert not (tmp_path / "none").exists()


def test_the_route_names_what_is_there(tmp_path: Path) -> None:
    pass_through.save(tmp_path / "none", PRIORS)
    card = load_card(tmp_path / "none")
    assert route(card, dict.fromkeys(card.modalities, UNREAD)) == "fused"
    assert route(card, {"text": UNREAD}) == "fallback:text"
    assert np.array_equal(card.blanks["image"].quality, UNREAD.quality)

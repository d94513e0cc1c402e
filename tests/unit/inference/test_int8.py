"""Linear layers in int8: exact on their grid, near the float layer elsewhere, and the same whatever the batch holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from inference.direct import DirectPredictor
from inference.models.card import WEIGHTS
from inference.models.checkpoint import load_checkpoint, save_checkpoint, write_manifest
from inference.models.int8 import LARGEST, Int8Linear, is_quantised, quantise
from inference.predictor import Predictor
from inference.training.data import LabelledExample
from inference.training.fit import fit
from inference.training.fit_settings import FitError, FitSettings
from tests.support.tiny_model import LABELS, random_batch, small_model, small_preprocessor

CPU = torch.device("cpu")
ENCODERS = {"image": "image_encoder.", "text": "text_encoder."}


def layer(inputs: int, outputs: int, seed: int, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs, bias=bias)


def test_numbers_on_the_grid_are_multiplied_exactly() -> None:
    rng = np.random.default_rng(0)
    source = layer(8, 4, 0)
    codes = rng.integers(-LARGEST, LARGEST + 1, (4, 8))
    codes[:, 0] = LARGEST  # which makes the step what it is meant to be
    with torch.no_grad():
        source.weight.copy_(torch.tensor(codes * 2.0**-9))
    x = rng.integers(-LARGEST, LARGEST + 1, (2, 3, 8)) * 0.25
    x[..., 0] = LARGEST * 0.25
    given = torch.tensor(x, dtype=torch.float32)
    torch.testing.assert_close(Int8Linear(source)(given), source(given), rtol=1e-6, atol=1e-6)


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 9), st.floats(1e-3, 1e3), st.booleans())
def test_the_error_is_at_most_half_a_step_of_each_factor(
    inputs: int, outputs: int, rows: int, size: float, bias: bool
) -> None:
    source = layer(inputs, outputs, rows, bias=bias)
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(rows)) * size
    with torch.no_grad():
        found, wanted = Int8Linear(source)(x), source(x)
        step = x.abs().amax(1, keepdim=True) / LARGEST
        of_weights = source.weight.abs().amax(1) / LARGEST * 1.001  # its float16
        bound = 0.5 * step * source.weight.abs().sum(1) + 0.5 * of_weights * (x.abs() + step).sum(1, keepdim=True)
    assert bool(((found - wanted).abs() <= bound * 1.01 + 1e-6 * size).all())


def test_a_row_does_not_depend_on_its_mates_and_nan_stays_nan() -> None:
    quantised = Int8Linear(layer(16, 8, 1))
    rows = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-3], [1], [1e3], [1], [0]])
    rows[3, 2] = torch.nan
    together = quantised(rows)
    for number, row in enumerate(rows):
        assert torch.equal(quantised(row[None])[0], together[number]) or number == 3
    assert torch.isnan(together[3]).all()
    assert quantised.bias is not None
    torch.testing.assert_close(together[4], quantised.bias)


def test_a_checkpoint_in_int8_comes_back_as_it_was_and_answers_like_the_one_it_was_made_of(tmp_path: Path) -> None:
    whole, model = small_model(), small_model()
    assert quantise(model, ENCODERS.values()) == 12
    assert not is_quantised(whole)
    for name, each in (("whole", whole), ("int8", model)):
        save_checkpoint(tmp_path / name, each, small_preprocessor(), LABELS, 1.25)
        write_manifest(tmp_path / name)
    loaded = load_checkpoint(tmp_path / "int8", CPU)
    size = {name: (tmp_path / name / WEIGHTS).stat().st_size for name in ("whole", "int8")}
    assert size["int8"] < size["whole"]
    assert loaded.fingerprints["image"] != load_checkpoint(tmp_path / "whole", CPU).fingerprints["image"]
    again = load_checkpoint(tmp_path / "int8", CPU)
    with torch.inference_mode():
        found = loaded.model(random_batch()).logits
        assert torch.equal(again.model(random_batch()).logits, found)
        torch.testing.assert_close(found, whole(random_batch()).logits, atol=0.05, rtol=0.05)
    picture = np.zeros((32, 32, 3), np.uint8)
    for dtype in ("float32", "bfloat16"):
        predictor = DirectPredictor(loaded.card, Predictor(loaded, CPU, dtype=dtype).run)
        (answer,) = predictor.predict([{"image": picture, "text": "a red circle"}])
        assert answer.error is None


def test_a_model_in_int8_is_not_trained() -> None:
    model = small_model()
    quantise(model, ENCODERS.values())
    rows = [LabelledExample("r", np.zeros((32, 32, 3), np.uint8), "a red circle", 0)]
    with pytest.raises(FitError, match="in int8, which cannot learn; train the checkpoint that it was made of"):
        fit(model, small_preprocessor(), rows, FitSettings(steps=1, batch_size=2))

"""Splits, batches, fine-tuning, temperature and calibration error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.models.cross_attention import CrossAttentionFusion
from inference.training.calibrate import fit_temperature
from inference.training.data import LabelledExample, collate, split
from inference.training.evaluate import evaluate, predict_logits, summarise
from inference.training.feed import without_modalities
from inference.training.fit import fit
from inference.training.fit_settings import FitSettings
from inference.training.groups import parameter_groups, rate_factor
from migrations.schema.calibration_error import debiased_ece
from tests.support.tiny_model import random_batch, small_model, small_preprocessor

CPU = torch.device("cpu")
QUICK = FitSettings(steps=30, batch_size=16, learning_rate=3e-3, warmup=3, drop=0.0, deadline_s=120.0)


def examples(count: int = 48) -> list[LabelledExample]:
    """The caption's colour decides the label; the picture is noise."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        red = bool(rng.random() < 0.5)
        image = rng.integers(0, 256, size=(32, 32, 3), dtype=np.uint8)
        rows.append(LabelledExample(f"r{i}", image, "a red circle" if red else "a blue circle", int(red)))
    return rows


def accuracy(model: CrossAttentionFusion, rows: list[LabelledExample]) -> float:
    return evaluate(model, small_preprocessor(), rows, 1.0, ["fused"])["fused"].accuracy


def test_split_is_stable_disjoint_and_near_its_share() -> None:
    rows = examples(1000)
    train, held = split(rows, 0.2)
    assert sorted(e.key for e in train + held) == sorted(e.key for e in rows)
    assert 150 < len(held) < 250
    _, fewer = split(list(reversed(rows[:500])), 0.2)
    assert {e.key for e in fewer} == {e.key for e in held if int(e.key[1:]) < 500}
    _, other = split(rows, 0.2, salt="other")
    assert {e.key for e in other} != {e.key for e in held}


def test_collate_marks_missing_rows_and_zeroes_them() -> None:
    rows = examples(3)
    rows[0] = replace(rows[0], image=None)
    rows[1] = replace(rows[1], caption=None)
    batch = collate(rows, small_preprocessor(), CPU)
    assert batch["image"].present.tolist() == [False, True, True]
    assert batch["text"].present.tolist() == [True, False, True]
    assert torch.all(batch["image"].tensors["pixel_values"][0] == 0.0)
    assert torch.all(batch["text"].tensors["attention_mask"][1] == 0)
    assert torch.all(batch["text"].tensors["attention_mask"][2] == 1)


def test_fit_learns_and_repeats_itself() -> None:
    rows, weights = examples(), []
    for _ in range(2):
        model = small_model()
        before = accuracy(model, rows)
        seen: list[int] = []
        result = fit(model, small_preprocessor(), rows, QUICK, progress=lambda *done, s=seen: s.append(int(done[0])))
        assert result.ended == "finished"
        assert seen == list(range(1, 31))
        assert accuracy(model, rows) > max(0.9, before)
        assert not model.training
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_frozen_parts_keep_their_values() -> None:
    model, start = small_model(), small_model().state_dict()
    fit(model, small_preprocessor(), examples(), replace(QUICK, steps=3, frozen=("text_encoder.",)))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, start[name])}
    assert moved
    assert not any(name.startswith("text_encoder.") for name in moved)
    assert any(name.startswith("image_encoder.") for name in moved)
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="no parameter starts with 'audio_encoder'"):
        fit(model, small_preprocessor(), examples(), replace(QUICK, frozen=("audio_encoder",)))


def ticking(seconds: float) -> Callable[[], float]:
    now = -seconds

    def clock() -> float:
        nonlocal now
        now += seconds
        return now

    return clock


def test_deadline_ends_a_run_and_a_stop_request_too() -> None:
    settings = replace(QUICK, steps=1000, deadline_s=5.0)
    late = fit(small_model(), small_preprocessor(), examples(), settings, clock=ticking(1.0))
    assert (late.ended, late.steps) == ("deadline", 4)
    stopped = fit(small_model(), small_preprocessor(), examples(), settings, should_stop=lambda: True)
    assert (stopped.ended, stopped.steps) == ("stopped", 0)
    assert math.isnan(stopped.loss)


def test_bad_training_data_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        fit(small_model(), small_preprocessor(), [], QUICK)
    model = small_model()
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="training loss is nan"):
        fit(model, small_preprocessor(), examples(), QUICK)


def test_drop_takes_each_modality_away_but_never_the_last() -> None:
    batch = {k: replace(v, present=torch.ones(4000, dtype=torch.bool)) for k, v in random_batch().items()}
    dropped = without_modalities(batch, 0.2, np.random.default_rng(0).random(4000))
    lost = {name: ~part.present for name, part in dropped.items()}
    for name in ("image", "text"):
        assert float(lost[name].float().mean()) == pytest.approx(0.2, abs=0.03)
    assert not bool((lost["image"] & lost["text"]).any())
    only_text = {**batch, "image": replace(batch["image"], present=torch.zeros(4000, dtype=torch.bool))}
    assert bool(without_modalities(only_text, 0.5, np.random.default_rng(0).random(4000))["text"].present.all())


def test_decay_spares_embeddings_biases_norms_and_tokens() -> None:
    model = small_model()
    names = {id(p): n for n, p in model.named_parameters()}
    decayed, kept = ({names[id(p)] for p in group["params"]} for group in parameter_groups(model, 0.05))
    assert decayed | kept == set(names.values())
    assert "cross.update.weight" in decayed
    assert not any("embeddings.weight" in n or n.endswith(("bias", "cls_token")) or "missing" in n for n in decayed)


def test_rate_rises_then_falls() -> None:
    assert [rate_factor(s, 0.0, 4) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]
    later = [rate_factor(9, done, 4) for done in (0.0, 0.5, 1.0, 2.0)]
    assert later == pytest.approx([1.0, 0.51, 0.02, 0.02])


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_is_found(true: float) -> None:
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(20000, 3, generator=generator) * 2.0
    labels = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(honest * true, labels) == pytest.approx(true, rel=0.05)


def test_temperature_leaves_room_for_doubt_where_every_answer_is_right() -> None:
    """Nine right answers of two classes support 1 - 0.1 / 2: one more row, split between the classes, of ten."""
    logits = torch.tensor([[1.0, 0.0]] * 9)
    found = fit_temperature(logits, torch.zeros(9, dtype=torch.int64))
    assert float((logits / found).softmax(1)[0, 0]) == pytest.approx(0.95, abs=1e-6)


def test_temperature_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ValueError, match="got 0 rows"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(torch.full((2, 3), float("nan")), torch.zeros(2, dtype=torch.int64))


def test_ece_of_a_calibrated_model_is_near_zero_at_small_n() -> None:
    rng = np.random.default_rng(0)
    values = []
    for _ in range(200):
        confidence = rng.uniform(0.4, 1.0, size=200)
        values.append(debiased_ece(confidence, rng.random(200) < confidence))
    assert np.mean(values) < 0.035  # the plain estimate shows 0.07 here


def test_ece_finds_overconfidence_at_its_size() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.7, 1.0, size=4000)
    correct = rng.random(4000) < confidence - 0.15
    assert debiased_ece(confidence, correct) == pytest.approx(0.15, abs=0.02)


def test_summary_counts_by_hand() -> None:
    probabilities = np.array([[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.7, 0.3, 0.0]])
    summary = summarise(probabilities, np.array([0, 1, 1, 0]))
    assert summary.count == 4
    assert summary.accuracy == 0.75
    assert summary.confidence == pytest.approx(0.75)
    assert summary.per_class[:2] == (1.0, 0.5)
    assert math.isnan(summary.per_class[2])


def test_patterns_hide_the_other_modality() -> None:
    rows, model, preprocessor = examples(8), small_model(), small_preprocessor()
    blind = [replace(e, image=None) for e in rows]
    assert torch.equal(predict_logits(model, preprocessor, rows, "text"), predict_logits(model, preprocessor, blind))
    with pytest.raises(ValueError, match="at least one example"):
        evaluate(model, preprocessor, [], 1.0)

"""In-batch shuffle: whose modality is exchanged, what that costs, and that nothing else notices."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from inference.collate import collate
from inference.contribution import KEPT, NONE, Shuffle, partners
from inference.judge import predictions
from inference.model_io import ModelInput, ModelOptions, ModelOutput
from inference.model_process import ModelProcess
from inference.models.base import Encoded, FusionOutput
from inference.models.checkpoint import Checkpoint
from inference.models.cross_attention import CrossAttentionFusion
from inference.predictor import Predictor
from inference.training.data import LabelledExample
from inference.training.validation import make_baseline, validate
from tests.support.tiny_model import small_checkpoint
from tests.unit.inference.tiny import DEVICE, tiny_model_predictor

CLASSES = 3


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


some_classes = st.lists(st.integers(NONE, 3), max_size=12).map(lambda found: np.array(found, np.intp))


@given(some_classes, some_classes, st.integers(0, 100))
def test_a_partner_has_another_class_and_is_missing_only_where_there_is_none(
    classes: NDArray[np.intp], donors: NDArray[np.intp], seed: int
) -> None:
    for own, partner in zip(classes, partners(classes, donors, rng(seed)), strict=True):
        others = set(np.flatnonzero((donors != own) & (donors != NONE)).tolist())
        if own == NONE or not others:
            assert partner == NONE
        else:
            assert partner in others


def test_partners_are_drawn_evenly() -> None:
    drawn = partners(np.zeros(6000, np.intp), np.array([0, 1, 2, NONE, 1, 0]), rng())
    counts = np.bincount(drawn, minlength=6)
    assert counts[[0, 3, 5]].tolist() == [0, 0, 0]
    assert counts[[1, 2, 4]] == pytest.approx(2000, abs=200)  # five standard deviations and more


def encoded(values: NDArray[np.floating], length: int = 2) -> Encoded:
    """N rows (N, CLASSES) of one modality: each row's logits as its first token, further tokens as padding."""
    pooled = torch.tensor(np.asarray(values, np.float32))
    tokens = torch.zeros(len(values), length, CLASSES)
    tokens[:, 0] = pooled
    mask = torch.zeros(len(values), length, dtype=torch.bool)
    mask[:, 0] = True
    return Encoded(tokens, mask, pooled)


def fusion(image: float, text: float) -> Any:
    """A model that adds up the logits of its modalities, with these weights."""

    def fuse(rows: Mapping[str, Encoded]) -> Tensor:
        total = sum(
            weight * (rows[name].tokens * rows[name].mask[:, :, None]).sum(1)
            for name, weight in (("image", image), ("text", text))
        )
        assert isinstance(total, Tensor)
        return total.softmax(-1)

    return fuse


def logits(classes: NDArray[np.intp], seed: int) -> NDArray[np.float64]:
    """(N, CLASSES) in which these classes are the largest, by at least 2."""
    return rng(seed).random((len(classes), CLASSES)) + 3.0 * np.eye(CLASSES)[classes]


def measured(
    shuffle: Shuffle,
    fuse: Any,
    rows: Mapping[str, Encoded],
    *,
    present: Mapping[str, NDArray[np.bool_]] | None = None,
    answers: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[np.float32]]:
    n = len(rows["image"].tokens)
    probabilities = fuse(rows).numpy() if answers is None else answers
    here = dict.fromkeys(rows, np.ones(n, np.bool_)) if present is None else present
    draws = shuffle.draws()
    assert draws is not None
    return shuffle.measure(rows, probabilities, np.zeros(n, np.bool_), here, draws)


def batch(classes: list[int], seed: int = 0, length: int = 2) -> dict[str, Encoded]:
    known = np.array(classes, np.intp)
    return {"image": encoded(logits(known, seed)), "text": encoded(logits(known, seed + 1), length)}


def test_what_is_not_looked_at_contributes_nothing_and_what_decides_contributes_most() -> None:
    rows = batch([0, 1, 2, 0, 1, 2, 0, 0])
    for weights, ignored, used in (((1.0, 0.0), "text", "image"), ((0.0, 1.0), "image", "text")):
        lost = measured(Shuffle(1.0, fusion(*weights)), fusion(*weights), rows)
        assert lost[ignored].tolist() == [0.0] * 8
        # the partner's logits make the partner's class the likeliest
        assert (lost[used] > 0.5).all()
    both = measured(Shuffle(1.0, fusion(1.0, 1.0)), fusion(1.0, 1.0), rows)
    assert all((lost > 0.05).all() for lost in both.values())


def test_the_loss_is_that_of_the_class_predicted_before() -> None:
    rows = batch([0, 1])
    fuse = fusion(1.0, 1.0)
    lost = measured(Shuffle(1.0, fuse), fuse, rows)
    before = fuse(rows).numpy()
    swapped = torch.tensor([1, 0])
    for name in ("image", "text"):
        after = fuse({**rows, name: rows[name].rows(swapped)}).numpy()
        assert lost[name].tolist() == pytest.approx([before[0, 0] - after[0, 0], before[1, 1] - after[1, 1]])


def test_rows_without_a_partner_a_modality_or_a_finite_answer_are_not_measured() -> None:
    fuse = fusion(1.0, 1.0)
    alike = measured(Shuffle(1.0, fuse), fuse, batch([1, 1, 1]))
    assert all(np.isnan(lost).all() for lost in alike.values())
    rows = batch([0, 0, 1, 1])
    answers = fuse(rows).numpy()
    answers[2] = np.nan
    present = {"image": np.array([True, False, True, True]), "text": np.ones(4, np.bool_)}
    found = measured(Shuffle(1.0, fuse), fuse, rows, present=present, answers=answers)
    for lost in found.values():
        assert np.isfinite(lost).tolist() == [True, False, False, True]
    # each has the other for its only partner
    after = fuse({**rows, "text": rows["text"].rows(torch.tensor([3, 1, 2, 0]))}).numpy()
    assert found["text"][0] == pytest.approx(answers[0, 0] - after[0, 0])


def test_a_row_alone_finds_its_partner_among_earlier_batches_of_another_length() -> None:
    fuse = fusion(1.0, 1.0)
    shuffle = Shuffle(1.0, fuse)
    first, second = batch([0], length=7), batch([1], seed=5, length=3)
    assert np.isnan(measured(shuffle, fuse, first)["image"]).all()
    found = measured(shuffle, fuse, second)
    for name in ("image", "text"):
        after = fuse({**second, name: first[name]}).numpy()
        assert found[name][0] == pytest.approx(fuse(second).numpy()[0, 1] - after[0, 1])
    assert np.isfinite(measured(shuffle, fuse, batch([1], length=1))["text"]).all()
    shuffle.forget()
    assert np.isnan(measured(shuffle, fuse, batch([1]))["image"]).all()


def test_what_is_kept_has_no_more_padding_than_its_own_rows_need() -> None:
    lengths = []

    def fuse(rows: Mapping[str, Encoded]) -> Tensor:
        lengths.append(rows["text"].tokens.shape[1])
        answers: Tensor = fusion(1.0, 1.0)(rows)
        return answers

    shuffle = Shuffle(1.0, fuse)
    measured(shuffle, fuse, batch([0, 1], length=40))
    measured(shuffle, fuse, batch([0, 1], length=3))
    assert lengths == [40] * 3 + [3] * 3


def test_what_is_kept_of_earlier_batches_is_bounded_and_of_every_class() -> None:
    shuffle = Shuffle(1.0, fusion(1.0, 1.0))
    measured(shuffle, fusion(1.0, 1.0), batch([0, 2, 2]))
    assert sorted(shuffle.kept) == [0, 2, 2]
    for seed in range(4):
        measured(shuffle, fusion(1.0, 1.0), batch([1] * 40, seed=seed))
    assert sorted(shuffle.kept) == [0] + [1] * (KEPT - 3) + [2, 2]


def test_what_is_kept_of_a_class_is_the_newest() -> None:
    fuse = fusion(1.0, 1.0)
    shuffle, newer, other = Shuffle(1.0, fuse), batch([2] * KEPT, seed=71), batch([0], seed=60)
    measured(shuffle, fuse, batch([2], seed=70))
    measured(shuffle, fuse, newer)
    found = measured(shuffle, fuse, other)["image"][0]
    after = [fuse({**other, "image": newer["image"].rows(torch.tensor([i]))})[0, 0] for i in range(KEPT)]
    assert min(abs(float(fuse(other)[0, 0] - each) - found) for each in after) < 1e-6


def test_the_sample_is_the_share_asked_for_and_the_same_again() -> None:
    def chosen(share: float) -> list[int]:
        shuffle = Shuffle(share, fusion(1.0, 1.0))
        return [number for number in range(4000) if shuffle.draws() is not None]

    assert len(chosen(0.05)) == pytest.approx(200, abs=60)  # four standard deviations
    assert chosen(0.05) == chosen(0.05)
    assert chosen(1.0) == list(range(4000))
    again = [Shuffle(1.0, fusion(1.0, 1.0)) for _ in range(2)]
    rows = batch([0, 1, 2] * 10)
    for _ in range(3):
        one, other = (measured(shuffle, fusion(1.0, 1.0), rows) for shuffle in again)
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """A small model that, although it was not trained, tells the inputs apart."""
    made = small_checkpoint(tmp_path / "small")
    spread(made)
    return made


def spread(checkpoint: Checkpoint) -> None:
    """Let small differences of inputs decide, and every class be predicted of some."""
    head = checkpoint.model.get_submodule("head")
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        head.weight *= 200.0
        head.bias[1] -= 9.0


def half_sure(_: CrossAttentionFusion, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
    """Heads that agree on every other row."""
    rows = torch.arange(len(encoded["text"].pooled))
    return {name: 9.0 * torch.eye(3)[torch.where(rows % 2 == 0, 0, own)] for own, name in enumerate(("image", "text"))}


def inputs(checkpoint: Checkpoint, count: int, *, lacking: tuple[int, ...] = (), seed: int = 0) -> ModelInput:
    """A batch of noise and captions; rows of `lacking` have no picture."""
    texts = ["a red circle", "a blue square is left of a red circle", "blue", "left of a square"]
    rows = []
    for i in range(count):
        values: dict[str, Any] = {"text": texts[(i + i // 4) % 4]}
        if i not in lacking:
            values["image"] = rng(seed + i).integers(0, 40 + 50 * (i % 5), (32, 32, 3), np.uint8)
        rows.append(checkpoint.card.prepare(values))
    return collate(rows, checkpoint.card.blanks)


def assert_same_answers(one: ModelOutput, other: ModelOutput) -> None:
    """Bit by bit."""
    assert np.array_equal(one.probabilities, other.probabilities)
    assert np.array_equal(one.agreement, other.agreement)
    assert np.array_equal(one.skipped, other.skipped)
    assert one.embeddings.keys() == other.embeddings.keys()
    assert all(np.array_equal(rows, other.embeddings[name]) for name, rows in one.embeddings.items())
    assert (one.attention is None) == (other.attention is None)
    assert one.attention is None or other.attention is None or np.array_equal(one.attention, other.attention)


@pytest.mark.parametrize("options", [{}, {"attention": True}, {"cascade_threshold": 0.9}, {"dtype": "bfloat16"}])
def test_measuring_changes_no_answer(tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrossAttentionFusion, "heads", half_sure)
    plain, other = small_checkpoint(tmp_path / "plain"), small_checkpoint(tmp_path / "other")
    for each in (plain, other):
        spread(each)
    precision = torch.get_float32_matmul_precision()
    try:
        without = Predictor(plain, DEVICE, **options)
        measuring = Predictor(other, DEVICE, contribution_share=1.0, **options)
    finally:
        torch.set_float32_matmul_precision(precision)
    seen = []
    for seed in range(3):
        rows = inputs(plain, 12, lacking=(3,), seed=100 * seed)
        expected, found = without.run(rows), measuring.run(rows)
        assert_same_answers(expected, found)
        assert (expected.contribution, expected.contribution_ms) == ({}, 0.0)
        assert list(found.contribution) == ["image", "text"]
        complete = np.arange(12) != 3
        for lost in found.contribution.values():
            assert np.isnan(lost[~complete | found.skipped]).all()
            assert np.isfinite(lost[complete & ~found.skipped]).all()
            assert (np.abs(lost[np.isfinite(lost)]) <= 1).all()
            seen += lost[np.isfinite(lost)].tolist()
        if options.get("cascade_threshold"):
            assert np.flatnonzero(found.skipped).tolist() == [0, 2, 4, 6, 8, 10]
    assert np.abs(seen).max() > 0.01


def test_warming_up_is_not_measured(checkpoint: Checkpoint) -> None:
    rows = inputs(checkpoint, 8)
    cold, warm = (Predictor(checkpoint, DEVICE, contribution_share=0.5) for _ in range(2))
    warm.warm_up()
    for _ in range(6):
        one, other = cold.run(rows).contribution, warm.run(rows).contribution
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def test_a_measurement_that_fails_costs_no_answer(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = inputs(checkpoint, 8)
    expected = Predictor(checkpoint, DEVICE).run(rows)
    predictor = Predictor(checkpoint, DEVICE, contribution_share=1.0)
    fuse = CrossAttentionFusion.fuse
    calls = []

    def failing(self: CrossAttentionFusion, given: Any, **options: bool) -> FusionOutput:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("no room for a second pass")
        return fuse(self, given, **options)

    monkeypatch.setattr(CrossAttentionFusion, "fuse", failing)
    with caplog.at_level(logging.WARNING, "inference.predictor"):
        found = predictor.run(rows)
    assert_same_answers(expected, found)
    assert (found.contribution, found.contribution_ms) == ({}, 0.0)
    assert [record.message for record in caplog.records] == ["contributions of a batch could not be measured"]
    assert predictor.run(rows).contribution.keys() == {"image", "text"}


def test_its_time_is_not_that_of_the_pass(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = inputs(checkpoint, 8)
    predictor = Predictor(checkpoint, DEVICE, contribution_share=1.0)
    fuse, calls = CrossAttentionFusion.fuse, []

    def slowed(self: CrossAttentionFusion, given: Any, **options: bool) -> FusionOutput:
        calls.append(1)
        if len(calls) > 1:
            time.sleep(0.5)
        return fuse(self, given, **options)

    monkeypatch.setattr(CrossAttentionFusion, "fuse", slowed)
    found = predictor.run(rows)
    assert len(calls) == 3
    assert found.contribution_ms >= 1000
    assert found.fuse_ms + sum(found.encode_ms.values()) < 1000


def test_a_family_without_steps_is_not_measured_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "inference.predictor"):
        predictor = tiny_model_predictor(contribution_share=1.0)
        predictor.warm_up()
    assert [record.message for record in caplog.records] == [
        "contributions are not measured: the model's family has no encode and fuse to run apart"
    ]


def test_a_prediction_carries_what_was_measured_of_it(checkpoint: Checkpoint) -> None:
    values: list[dict[str, Any]] = [
        {"text": "a red circle", "image": np.zeros((32, 32, 3), np.uint8)},
        {"text": "blue"},
    ]
    rows = [checkpoint.card.prepare(each) for each in values]
    output = Predictor(checkpoint, DEVICE).run(collate(rows, checkpoint.card.blanks))
    lost = {"image": np.array([0.25, np.nan], np.float32), "text": np.array([-0.5, np.nan], np.float32)}
    told = ModelOutput(
        output.probabilities, output.embeddings, output.agreement, output.skipped, output.encode_ms, output.fuse_ms,
        contribution=lost, contribution_ms=3.0,
    )  # fmt: skip
    first, second = predictions(checkpoint.card, rows, told)
    assert (first.contribution, second.contribution) == ({"image": 0.25, "text": -0.5}, {})
    assert first.contribution_ms == second.contribution_ms == 3.0
    assert first.compute_ms == pytest.approx((first.encode_ms + first.fuse_ms) / 2)
    assert predictions(checkpoint.card, rows, output)[0].contribution == {}


def test_a_models_baseline_holds_what_its_validation_rows_lose(checkpoint: Checkpoint) -> None:
    words = ["a", "red", "circle", "is", "left", "of", "a", "blue", "square"]
    rows = []
    for i in range(160):
        draws = rng(i)
        image = draws.integers(0, 40 + 50 * (i % 5), (32, 32, 3), np.uint8)
        rows.append(LabelledExample(str(i), image, " ".join(draws.choice(words, 8)), 0))
    seen = validate(checkpoint, rows)
    assert seen.contribution.keys() == {"image", "text"}
    for lost in seen.contribution.values():
        assert np.isfinite(lost).mean() > 0.95
    bins = make_baseline(checkpoint, rows, rows).reference["fused"]
    image, text, measured = bins.total("contribution")
    assert measured == np.isfinite(seen.contribution["image"]).sum()
    assert [image, text] == pytest.approx([np.nansum(seen.contribution[name]) for name in ("image", "text")], abs=1e-3)


def test_it_comes_through_the_model_process(tmp_path: Path) -> None:
    checkpoint = small_checkpoint(tmp_path / "small")
    here = Predictor(checkpoint, DEVICE, contribution_share=1.0)
    process = ModelProcess(tmp_path / "small", ModelOptions(device="cpu", torch_threads=1, contribution_share=1.0))
    process.start()
    try:
        for seed in (0, 100):
            rows = inputs(checkpoint, 24, lacking=(3,), seed=seed)
            expected, found = here.run(rows), process.run(rows)
            assert found.contribution.keys() == {"image", "text"}
            for name, lost in found.contribution.items():
                assert lost.shape == (24,)
                assert np.allclose(lost, expected.contribution[name], atol=1e-5, equal_nan=True)
        assert found.contribution_ms > 0
    finally:
        process.close()

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.collate import collate
from inference.direct import DirectPredictor
from inference.errors import Code
from inference.judge import predictions
from inference.models.base import FusionOutput, ModalityBatch
from inference.models.checkpoint import Checkpoint
from inference.models.cross_attention import CrossAttentionFusion
from inference.predictor import Predictor
from tests.support.tiny_model import small_checkpoint
from tests.unit.inference.tiny import DEVICE, TinyModel, tiny_model_predictor, tiny_predictor

WHITE = np.full((4, 4, 3), 255, np.uint8)


def test_probabilities_are_softmax_of_logits_over_temperature() -> None:
    (prediction,) = tiny_predictor(temperature=2.0).predict([{"image": WHITE, "text": "abc"}])
    logits = np.array([1.0 - 3.0, -1.0 + 3.0]) / 2.0
    expected = np.exp(logits) / np.exp(logits).sum()
    assert prediction.probabilities == pytest.approx(expected, abs=1e-6)
    assert prediction.confidence == pytest.approx(expected[1], abs=1e-6)
    assert (prediction.label, prediction.route, prediction.error) == ("misleading", "fused", None)
    assert prediction.classes == ("consistent", "misleading")


def test_the_route_names_what_was_there_and_only_that_is_embedded() -> None:
    both, image, text = tiny_predictor().predict([{"image": WHITE, "text": "ab"}, {"image": WHITE}, {"text": "ab"}])
    assert [p.route for p in (both, image, text)] == ["fused", "fallback:image", "fallback:text"]
    assert set(both.embeddings) == {"image", "text", "fused"}
    assert set(image.embeddings) == set(image.quality) | {"fused"} == {"image", "fused"}
    assert set(text.embeddings) == {"text", "fused"}
    assert (image.label, text.label) == ("consistent", "misleading")


def test_agreement_is_of_all_heads_with_the_fused_class_and_only_when_fused() -> None:
    split, alone = tiny_predictor().predict([{"image": WHITE, "text": "ab"}, {"text": "ab"}])
    black_and_text = tiny_predictor().predict([{"image": WHITE * 0, "text": "ab"}])[0]
    assert split.agreement is False
    assert alone.agreement is None
    assert black_and_text.agreement is False  # a tie of the image head is the first class
    assert tiny_predictor(model=_Agreeing()).predict([{"image": WHITE, "text": "ab"}])[0].agreement is True


class _Agreeing(TinyModel):
    def forward(self, batch: Mapping[str, ModalityBatch], **_: bool) -> FusionOutput:
        output = super().forward(batch)
        heads = {"image": output.logits, "text": output.logits}
        return type(output)(output.logits, output.embeddings, heads)


def test_nan_becomes_an_error_of_its_row_alone() -> None:
    good, bad = tiny_predictor().predict([{"image": WHITE, "text": "ab"}, {"image": WHITE, "text": "a" * 7}])
    assert good.error is None
    assert bad.error is Code.MODEL_NOT_FINITE
    assert (bad.label, bad.confidence, bad.probabilities, dict(bad.embeddings)) == (None, None, None, {})


def test_what_the_device_refuses_is_raised() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        tiny_predictor(model=TinyModel(most=1)).predict([{"text": "ab"}, {"image": WHITE}])


def test_results_do_not_depend_on_batch_mates() -> None:
    inputs: list[dict[str, Any]] = [{"image": WHITE, "text": "abc"}, {"text": "a" * 20}, {"image": WHITE}]
    together = tiny_predictor().predict(inputs)
    alone = [tiny_predictor().predict([each])[0] for each in inputs]
    assert [p.confidence for p in together] == pytest.approx([p.confidence for p in alone])


def test_no_inputs_need_no_forward_pass() -> None:
    model = TinyModel()
    assert tiny_predictor(model=model).predict([]) == []
    assert model.sizes == []


def test_warm_up_refuses_a_model_that_answers_blanks_with_nan() -> None:
    class Broken(TinyModel):
        def forward(self, batch: Mapping[str, ModalityBatch], **_: bool) -> FusionOutput:
            output = super().forward(batch)
            return type(output)(output.logits * np.nan, output.embeddings, output.unimodal_logits)

    tiny_model_predictor().warm_up()
    with pytest.raises(RuntimeError, match="not finite"):
        tiny_model_predictor(model=Broken()).warm_up()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return small_checkpoint(tmp_path / "small")


def values(count: int) -> list[dict[str, Any]]:
    """Requests with both modalities, of different lengths."""
    rng = np.random.default_rng(0)
    texts = ["a red circle", "a blue square is left of a red circle", "blue"]
    return [{"image": rng.integers(0, 256, (32, 32, 3), np.uint8), "text": texts[i % 3]} for i in range(count)]


def agreeing(checkpoint: Checkpoint, image: float, text: float) -> None:
    """Make both heads say class 1, whatever they see, with these logits."""
    model = checkpoint.model
    for head, logit in ((model.get_submodule("image_head"), image), (model.get_submodule("text_head"), text)):
        assert isinstance(head, torch.nn.Linear)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.copy_(torch.tensor([0.0, logit, 0.0]))


def softmax(logit: float) -> float:
    return float(np.exp(logit) / (np.exp(logit) + 2))


def fused_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each fusion step was given."""
    sizes: list[int] = []
    fuse = CrossAttentionFusion.fuse

    def counted(self: CrossAttentionFusion, encoded: Any, **options: bool) -> FusionOutput:
        sizes.append(len(encoded["image"].tokens))
        return fuse(self, encoded, **options)

    monkeypatch.setattr(CrossAttentionFusion, "fuse", counted)
    return sizes


def test_the_cascade_spares_what_both_heads_are_sure_of(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreeing(checkpoint, 3.0, 2.0)
    least = softmax(2.0)
    inputs = [*values(3), {"text": "a red circle"}, {"image": values(1)[0]["image"]}]
    plain = DirectPredictor(checkpoint.card, Predictor(checkpoint, DEVICE).run).predict(inputs)
    sizes = fused_rows(monkeypatch)
    sure = Predictor(checkpoint, DEVICE, cascade_threshold=least - 0.001)
    found = DirectPredictor(checkpoint.card, sure.run).predict(inputs)
    assert sizes == [2]
    assert [p.route for p in found] == ["cascade"] * 3 + ["fallback:text", "fallback:image"]
    for prediction in found[:3]:
        assert prediction.probabilities is not None
        assert prediction.probabilities[1] == pytest.approx((softmax(3.0) + least) / 2, abs=1e-6)
        assert (prediction.label, prediction.agreement) == ("no", True)
        assert prediction.embeddings.keys() == {"image", "text"}
        assert prediction.attention is None
    for ours, theirs in zip(found[3:], plain[3:], strict=True):
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-6)
        assert ours.embeddings.keys() == theirs.embeddings.keys()
        assert ours.embeddings["fused"] == pytest.approx(theirs.embeddings["fused"], abs=1e-5)
    unsure = Predictor(checkpoint, DEVICE, cascade_threshold=least + 0.001)
    for ours, theirs in zip(DirectPredictor(checkpoint.card, unsure.run).predict(inputs), plain, strict=True):
        assert ours.route == theirs.route
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-6)


def test_heads_that_disagree_are_fused_and_a_batch_of_sure_ones_is_not(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = fused_rows(monkeypatch)
    predictor = Predictor(checkpoint, DEVICE, cascade_threshold=0.5)
    agreeing(checkpoint, 5.0, 5.0)
    rows = [checkpoint.card.prepare(each) for each in values(4)]
    output = predictor.run(collate(rows, checkpoint.card.blanks))
    assert output.skipped.all()
    assert sizes == []
    assert "fused" not in output.embeddings
    assert [p.route for p in predictions(checkpoint.card, rows, output)] == ["cascade"] * 4
    with torch.no_grad():
        checkpoint.model.get_submodule("text_head").bias.copy_(torch.tensor([5.0, 0.0, 0.0]))  # type: ignore[operator]
    output = predictor.run(collate(rows, checkpoint.card.blanks))
    assert not output.skipped.any()
    assert sizes == [4]
    assert output.agreement.tolist() == [0, 0, 0, 0]


def test_a_share_of_the_batches_is_fused_whole_whatever_the_heads_say(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is fused only where heads are not sure would look like drift beside a baseline of all requests."""
    agreeing(checkpoint, 5.0, 5.0)
    rows = [checkpoint.card.prepare(each) for each in values(4)]
    batch = collate(rows, checkpoint.card.blanks)
    plain = Predictor(checkpoint, DEVICE).run(batch)
    sizes = fused_rows(monkeypatch)
    predictor = Predictor(checkpoint, DEVICE, cascade_threshold=0.5, cascade_sample=0.5, contribution_share=0.25)
    predictor.warm_up()
    sizes.clear()
    whole = 0
    for _ in range(16):
        output = predictor.run(batch)
        found = predictions(checkpoint.card, rows, output)
        assert {(p.route, p.cascaded) for p in found} == {("cascade", True) if output.cascaded else ("fused", False)}
        if output.cascaded:
            assert not output.contribution, "the smaller share is of batches that are whole"
        else:
            assert output.probabilities == pytest.approx(plain.probabilities)
            assert output.embeddings["fused"] == pytest.approx(plain.embeddings["fused"])
            whole += 1
    assert 2 <= whole <= 14
    assert sizes[:1] == [4]
    assert not plain.cascaded


def test_heads_that_are_nan_are_never_sure(checkpoint: Checkpoint) -> None:
    agreeing(checkpoint, float("nan"), float("nan"))
    predictor = Predictor(checkpoint, DEVICE, cascade_threshold=0.0)
    assert [p.route for p in DirectPredictor(checkpoint.card, predictor.run).predict(values(2))] == ["fused"] * 2


def test_a_family_without_steps_has_no_cascade() -> None:
    with pytest.raises(ValueError, match="needs a family with encode, heads and fuse"):
        tiny_model_predictor(cascade_threshold=0.9)


def test_attention_is_of_the_request_alone(checkpoint: Checkpoint) -> None:
    predictor = DirectPredictor(checkpoint.card, Predictor(checkpoint, DEVICE, attention=True).run)
    inputs = values(3)
    together = predictor.predict(inputs)
    for each, prediction in zip(inputs, together, strict=True):
        (alone,) = predictor.predict([each])
        tokens = len(checkpoint.card.prepare(each)["text"].inputs["input_ids"])
        assert prediction.attention is not None
        assert prediction.attention.shape == (5, tokens)
        assert prediction.attention.sum(axis=1) == pytest.approx(1.0, abs=0.01)
        assert prediction.attention == pytest.approx(alone.attention, abs=1e-3)
    plain = DirectPredictor(checkpoint.card, Predictor(checkpoint, DEVICE).run).predict(inputs)
    assert [p.attention for p in plain] == [None] * 3


def test_bfloat16_is_for_the_encoders_and_changes_answers_by_rounding_only(checkpoint: Checkpoint) -> None:
    rows = [checkpoint.card.prepare(each) for each in values(6)]
    batch = collate(rows, checkpoint.card.blanks)
    exact = Predictor(checkpoint, DEVICE).run(batch)
    precision = torch.get_float32_matmul_precision()
    try:
        rounded = Predictor(checkpoint, DEVICE, dtype="bfloat16").run(batch)
    finally:
        torch.set_float32_matmul_precision(precision)
    types = {name.split(".")[0]: p.dtype for name, p in checkpoint.model.named_parameters()}
    assert {name for name, dtype in types.items() if dtype is torch.bfloat16} == {"image_encoder", "text_encoder"}
    assert rounded.probabilities.dtype == np.float32
    assert not np.array_equal(rounded.probabilities, exact.probabilities)
    assert rounded.probabilities == pytest.approx(exact.probabilities, abs=0.02)
    for name, vectors in exact.embeddings.items():
        error = np.linalg.norm(rounded.embeddings[name] - vectors, axis=1) / np.linalg.norm(vectors, axis=1)
        assert error.max() < 0.03, name


def test_compiling_without_a_compiler_is_refused_by_its_name(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="needs a C\\+\\+ compiler; none of no-such-compiler"):
        Predictor(checkpoint, DEVICE, compile=True)


def test_times_are_of_the_encoders_and_of_what_follows(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [checkpoint.card.prepare(each) for each in values(1)]
    fuse = CrossAttentionFusion.fuse

    def slowed(self: CrossAttentionFusion, encoded: Any, **options: bool) -> FusionOutput:
        time.sleep(0.3)
        return fuse(self, encoded, **options)

    monkeypatch.setattr(CrossAttentionFusion, "fuse", slowed)
    output = Predictor(checkpoint, DEVICE).run(collate(rows, checkpoint.card.blanks))
    assert output.fuse_ms >= 300
    assert list(output.encode_ms) == ["image", "text"]

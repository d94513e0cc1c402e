from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from inference.errors import Code
from inference.models.base import FusionOutput, ModalityBatch
from tests.unit.inference.tiny import TinyModel, tiny_model_predictor, tiny_predictor

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


def test_a_batch_too_large_for_the_device_is_split() -> None:
    model = TinyModel(most=3)
    predictions = tiny_predictor(model=model).predict([{"text": "a" * n} for n in (1, 2, 3, 4, 5, 6, 8, 9)])
    assert [p.error for p in predictions] == [None] * 8
    assert max(size for size in model.sizes if size <= 3) == 2
    confidences = [p.confidence for p in predictions if p.confidence is not None]
    assert confidences == sorted(confidences)


def test_a_request_that_cannot_run_alone_is_an_error() -> None:
    predictions = tiny_predictor(model=TinyModel(most=0)).predict([{"text": "ab"}, {"image": WHITE}])
    assert [p.error for p in predictions] == [Code.MODEL_FAILED] * 2


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

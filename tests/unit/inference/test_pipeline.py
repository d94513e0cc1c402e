from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import pytest
from PIL import Image

from inference.cache import PredictionCache
from inference.engine import ModelUnwellError
from inference.errors import Code
from inference.modalities.base import modalities
from inference.models.base import FusionOutput, ModalityBatch
from inference.outcome import DeadLetter, Predicted
from tests.support.local import HASHER, LocalPath
from tests.unit.inference.messages import NOW, message, record
from tests.unit.inference.tiny import TinyModel, tiny_model_predictor


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def sent(image: bytes | None = None, text: str | None = "abc", **changes: object) -> dict[str, object]:
    parts: dict[str, object] = {}
    if image is not None:
        parts["image"] = {"data": base64.b64encode(image).decode()}
    if text is not None:
        parts["text"] = {"data": text}
    return message(modalities=parts, **changes)


def one(value: object) -> Predicted:
    (outcome,) = LocalPath().run([record(value)])
    assert isinstance(outcome, Predicted), outcome
    return outcome


def test_every_record_has_its_outcome_in_order() -> None:
    records = [record(v, offset=i) for i, v in enumerate([sent(png()), b"junk", sent(), b"junk", sent(b"GIF89a")])]
    outcomes = LocalPath().run(records)
    assert [outcome.record.offset for outcome in outcomes] == [0, 1, 2, 3, 4]
    assert [isinstance(outcome, DeadLetter) for outcome in outcomes] == [False, True, False, True, False]


def test_a_corrupt_image_leaves_the_text_answered() -> None:
    outcome = one(sent(png()[:-30]))
    assert outcome.modalities["image"].status == "corrupt"
    assert outcome.modalities["text"].status == "present"
    assert (outcome.prediction.route, outcome.degraded) == ("fallback:text", True)


def test_a_modality_that_was_not_expected_degrades_nothing() -> None:
    outcome = one(sent(expected_modalities=["text"]))
    assert (outcome.prediction.route, outcome.degraded) == ("fallback:text", False)
    assert set(outcome.modalities) == {"text"}
    assert one(sent()).degraded is True
    assert one(sent()).modalities["image"].reason == "not_sent"


def test_nothing_usable_is_a_dead_letter_that_says_what_each_modality_was() -> None:
    (outcome,) = LocalPath().run([record(sent(b"GIF89a", text="a\0b"))])
    assert isinstance(outcome, DeadLetter)
    assert outcome.refusal.code is Code.NO_USABLE_MODALITY
    assert outcome.refusal.detail == "image: rejected (format_not_allowed), text: rejected (nul)"


def test_digests_are_of_the_raw_input_also_where_it_was_rejected() -> None:
    outcome = one(sent(b"GIF89a"))
    assert outcome.modalities["image"].digest == HASHER.digest(b"GIF89a")
    assert outcome.modalities["text"].digest == HASHER.digest("abc")
    assert one(sent()).modalities["image"].digest is None


def test_a_producer_clock_far_off_is_quarantined_and_still_answered() -> None:
    for shift, reason in (
        (timedelta(minutes=6), "produced_in_future"),
        (timedelta(minutes=4), None),
        (timedelta(hours=-23), None),
        (timedelta(hours=-25), "produced_too_old"),
    ):
        outcome = one(sent(png(), produced_at=(NOW + shift).isoformat()))
        assert outcome.quarantine == reason
        assert outcome.prediction.error is None


def test_quality_and_times_are_reported() -> None:
    outcome = one(sent(png()))
    assert set(outcome.modalities["image"].quality) == set(modalities()["image"].quality_names)
    assert outcome.total_ms >= outcome.queue_ms
    assert outcome.preprocess_ms >= outcome.modalities["image"].preprocess_ms > 0


def test_nothing_raw_shows_in_representations() -> None:
    secret = "MARKED-SECRET"
    outcome = one(sent(png(), text=secret))
    assert secret not in repr(outcome)
    assert secret not in repr(outcome.request)
    assert secret not in repr(outcome.record)


def test_what_the_model_cannot_run_in_a_batch_is_run_in_parts() -> None:
    path = LocalPath(tiny_model_predictor(TinyModel(most=3)))
    outcomes = path.run([record(sent(png()), offset=offset) for offset in range(10)])
    assert [outcome.record.offset for outcome in outcomes] == list(range(10))
    assert all(isinstance(outcome, Predicted) for outcome in outcomes)
    assert path.model.restarts == 0


class Refuses(TinyModel):
    """Cannot run a text of five characters."""

    def forward(self, batch: Mapping[str, ModalityBatch], **options: bool) -> FusionOutput:
        if bool((batch["text"].tensors["attention_mask"].sum(dim=1) == 5).any()):
            raise RuntimeError("no kernel for this shape")
        return super().forward(batch, **options)


def test_a_request_that_fails_alone_is_a_dead_letter_and_its_mates_are_answered() -> None:
    texts = ["abc", "a", "12345", "abcd"]
    outcomes = LocalPath(tiny_model_predictor(Refuses())).run(
        [record(sent(png(), text=text), offset=offset) for offset, text in enumerate(texts)]
    )
    assert [isinstance(outcome, DeadLetter) for outcome in outcomes] == [False, False, True, False]
    letter = outcomes[2]
    assert isinstance(letter, DeadLetter)
    assert letter.refusal.code is Code.MODEL_FAILED
    assert letter.record.value is not None


def test_a_model_that_fails_on_a_blank_input_blames_no_request() -> None:
    path = LocalPath(tiny_model_predictor(TinyModel(most=0)))
    with pytest.raises(ModelUnwellError):
        path.run([record(sent(png()))])
    assert path.model.restarts == 1


def test_an_unusable_output_is_answered_with_its_reason() -> None:
    outcome = one(sent(png(), text="1234567"))
    assert outcome.prediction.error is Code.MODEL_NOT_FINITE
    assert outcome.prediction.label is None


def test_equal_inputs_are_answered_from_the_cache() -> None:
    path = LocalPath(cache=PredictionCache(1_000_000))
    first, other = path.run([record(sent(png())), record(sent(png(), text="other"), offset=1)])
    (again,) = path.run([record(sent(png()), offset=2)])
    (degraded,) = path.run([record(sent(), offset=3)])
    for outcome in (first, other, again, degraded):
        assert isinstance(outcome, Predicted)
    assert isinstance(first, Predicted)
    assert isinstance(again, Predicted)
    assert isinstance(degraded, Predicted)
    assert [first.prediction.route, again.prediction.route] == ["fused", "cached"]
    assert again.prediction.label == first.prediction.label
    assert np.array_equal(again.prediction.embeddings["fused"], first.prediction.embeddings["fused"])
    assert again.modalities["image"].digest == first.modalities["image"].digest
    assert again.modalities["image"].quality == first.modalities["image"].quality
    assert degraded.prediction.route == "fallback:text"


def test_what_is_in_flight_counts_decoded_bytes_too() -> None:
    path = LocalPath()
    path.run([record(sent(png()), offset=offset) for offset in range(3)])
    assert path.inflight.bytes >= 3 * 4 * 4 * 3

from __future__ import annotations

import base64
import io
from datetime import timedelta

import numpy as np
from PIL import Image

from inference.clock import ClockTolerance
from inference.errors import Code
from inference.hashing import Hasher
from inference.modalities.base import modalities
from inference.outcome import DeadLetter, Predicted
from inference.pipeline import Pipeline
from inference.request import RequestParser
from tests.unit.inference.messages import NOW, message, record
from tests.unit.inference.tiny import tiny_predictor

HASHER = Hasher("k1", b"k" * 32)


def pipeline() -> Pipeline:
    parser = RequestParser({"image": bytes, "text": str})
    predictor = tiny_predictor()
    return Pipeline(parser, modalities(), HASHER, lambda: predictor, ClockTolerance(), clock=lambda: 100.5)


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
    (outcome,) = pipeline().run([record(value)])
    assert isinstance(outcome, Predicted), outcome
    return outcome


def test_every_record_has_its_outcome_in_order() -> None:
    records = [record(v, offset=i) for i, v in enumerate([sent(png()), b"junk", sent(), b"junk", sent(b"GIF89a")])]
    outcomes = pipeline().run(records)
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
    (outcome,) = pipeline().run([record(sent(b"GIF89a", text="a\0b"))])
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
    assert outcome.queue_ms == outcome.total_ms == 500.0


def test_nothing_raw_shows_in_representations() -> None:
    secret = "MARKED-SECRET"
    outcome = one(sent(png(), text=secret))
    assert secret not in repr(outcome)
    assert secret not in repr(outcome.request)
    assert secret not in repr(outcome.record)

"""What enters the summaries of a version, and what stays out of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inference.baseline import Baseline
from inference.modalities.base import Status
from inference.outcome import ModalityOutcome, Predicted, Prediction
from inference.request import Request
from inference.summarise import Preview, WindowSummaries
from migrations.schema import bins as schema_bins
from tests.support.streams import CLASSES, IMAGE, QUALITY, baseline
from tests.unit.inference.messages import NOW, record

FINGERPRINTS = {"image": "vit", "text": "bert", "fused": "cross"}
WIDTHS = {name: len(names) for name, names in QUALITY.items()}


@pytest.fixture(scope="module")
def made() -> Baseline:
    return baseline(400, np.random.default_rng(0))


def row(offset: int, **changes: Any) -> Predicted:
    """A fused answer; `changes` replace fields of its prediction."""
    width = IMAGE.d
    fields: dict[str, Any] = {
        "model_version": "v1",
        "classes": CLASSES,
        "route": "fused",
        "error": None,
        "label": CLASSES[0],
        "confidence": 0.9,
        "probabilities": np.array([0.9, 0.05, 0.05], np.float32),
        "agreement": True,
        "embeddings": {name: np.full(width, 0.1, np.float32) for name in FINGERPRINTS},
        "quality": {name: np.ones(n, np.float32) for name, n in WIDTHS.items()},
        "preprocess_ms": 0.0,
        "encode_ms": 0.0,
        "fuse_ms": 0.0,
        **changes,
    }
    return Predicted(
        record=record(b"{}", offset=offset),
        request=Request(f"r{offset}", 1, NOW, None, None, {}, None),
        modalities={name: ModalityOutcome(Status.PRESENT, None, None, None, {}) for name in ("image", "text")},
        prediction=Prediction(**fields),
        degraded=False,
        quarantine=None,
        queue_ms=0.0,
        preprocess_ms=0.0,
        total_ms=0.0,
    )


def summaries(made: Baseline | None, quality: dict[str, int] | None) -> WindowSummaries:
    windows = WindowSummaries({}, 60, 8, "w1")
    windows.add_version("v1", len(CLASSES), FINGERPRINTS, made, quality)
    return windows


def rows_in_bins(preview: Preview) -> dict[str, int]:
    return {each["modality"]: schema_bins.load(each["bins"]).rows for each in preview.rows(NOW)}


@pytest.mark.parametrize(
    ("changes", "inside"),
    [
        ({}, {"image": 2, "text": 2, "fused": 2}),
        ({"embeddings": {}, "label": None, "confidence": None}, {"image": 1, "text": 1, "fused": 1}),
        ({"embeddings": {"image": np.zeros(IMAGE.d, np.float32)}}, {"image": 2, "text": 1, "fused": 1}),
        ({"quality": {"text": np.ones(WIDTHS["text"], np.float32)}}, {"image": 1, "text": 2, "fused": 1}),
    ],
)
def test_a_row_that_lacks_what_the_bins_hold_is_counted_but_stays_out_of_them(
    made: Baseline, changes: dict[str, Any], inside: dict[str, int]
) -> None:
    preview = summaries(made, WIDTHS).preview([row(0), row(1, **changes)])
    assert rows_in_bins(preview) == inside
    assert {each["modality"]: each["counts"] for each in preview.rows(NOW)} == {
        "image": {"present": 2},
        "text": {"present": 2},
        "fused": {"rows": 2, "fused": 2},
    }


def test_of_a_cascade_only_batches_that_were_fused_whole_stand_for_all_requests(made: Baseline) -> None:
    """Neither what it spared nor what it did not: the one lacks the fused embedding, the other is a choice of rows."""
    spared = {"embeddings": {name: np.full(IMAGE.d, 0.1, np.float32) for name in ("image", "text")}}
    rows = [
        row(0),
        row(1),
        row(2, cascaded=True),
        row(3, cascaded=True, route="cascade", **spared),
        row(4, cascaded=True, route="cached"),
        row(5, route="cached"),
    ]
    for kept in (made, None):
        preview = summaries(kept, WIDTHS).preview(rows)
        assert rows_in_bins(preview) == {"image": 6, "text": 6, "fused": 3}
        counts = {each["modality"]: each["counts"] for each in preview.rows(NOW)}
        assert counts["fused"] == {"rows": 6, "fused": 3, "cascade": 1, "cached": 2}


def test_without_a_baseline_embeddings_of_any_width_are_not_looked_at() -> None:
    odd = {"image": np.zeros(3, np.float32), "fused": np.full(2, np.nan, np.float32)}
    preview = summaries(None, {}).preview([row(0), row(1, embeddings=odd, quality={})])
    assert rows_in_bins(preview) == {"image": 0, "text": 0, "fused": 2}
    (fused,) = [schema_bins.load(each["bins"]) for each in preview.rows(NOW) if each["modality"] == "fused"]
    assert set(fused.columns) == {"classes", "confidence", "agreement", "lag", "contribution"}


def test_a_version_that_was_dropped_starts_new_records(made: Baseline) -> None:
    windows = summaries(made, WIDTHS)
    windows.commit(windows.preview([row(0), row(1)]))
    windows.drop_version("v1")
    windows.add_version("v1", len(CLASSES), FINGERPRINTS, made, WIDTHS)
    preview = windows.preview([row(2)])
    assert {each["first_offset"] for each in preview.rows(NOW)} == {2}
    assert rows_in_bins(preview) == {"image": 1, "text": 1, "fused": 1}


def test_agreement_is_counted_of_every_row_whose_heads_can_be_asked(made: Baseline) -> None:
    rows = [row(i, agreement=agrees) for i, agrees in enumerate((True, True, False, None))]
    preview = summaries(made, WIDTHS).preview(rows)
    (fused,) = [each for each in preview.rows(NOW) if each["modality"] == "fused"]
    assert fused["totals"]["agreement"] == [1, 2]
    assert schema_bins.load(fused["bins"]).total("agreement") == 2
    silent = summaries(made, WIDTHS).preview([row(0, agreement=None)])
    (fused,) = [each for each in silent.rows(NOW) if each["modality"] == "fused"]
    assert "agreement" not in fused["totals"], "no head, no count: not 0%"

"""What findings say together: since when, with what consequences, and what it is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from migrations.schema.bins import from_rows
from monitor.alerts.rules import RULES
from monitor.detectors._within import within_classes
from monitor.domain.alert import Signal
from monitor.domain.attribution import Before, Source, attributed, harmless
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import FUSED, Summary, Window

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=1))


def finding(detector: str, modality: str, verdict: Verdict = Verdict.OK, **details: Any) -> Finding:
    return Finding(
        detector, modality, WINDOW, verdict, 1.0, 0.0, 1.0, None, 0.25, 500, 500, 1, "v1",
        f"Something about {modality}.", details,
    )  # fmt: skip


CALM = [finding("embedding_mmd", FUSED), finding("class_drift", FUSED), finding("pairing", FUSED)]
BLUR = finding("embedding_mmd", "image", Verdict.DRIFT)


def one(found: list[Finding], detector: str, modality: str) -> Finding:
    return next(each for each in found if (each.detector, each.modality) == (detector, modality))


def test_a_drift_without_consequences_is_a_note_that_no_rule_counts_as_a_breach() -> None:
    blur = one(attributed([BLUR, *CALM], before={}), "embedding_mmd", "image")
    assert blur.verdict is Verdict.DRIFT
    assert harmless(blur)
    assert "note" in blur.explanation
    rule = next(rule for rule in RULES if rule.covers(blur))
    assert rule.signal(blur) is Signal.CLEAR
    assert rule.signal(BLUR) is Signal.BREACH


@pytest.mark.parametrize("detector", ["class_drift", "pairing", "accuracy", "agreement", "calibration", "contribution"])
def test_any_consequence_makes_it_a_ticket_and_is_named(detector: str) -> None:
    others = [each for each in CALM if each.detector != detector]
    found = attributed([BLUR, *others, finding(detector, FUSED, Verdict.DRIFT)], before={})
    blur = one(found, "embedding_mmd", "image")
    assert not harmless(blur)
    assert "with it moved the" in blur.explanation


@pytest.mark.parametrize("verdict", [Verdict.INSUFFICIENT, Verdict.NO_DATA, Verdict.NO_BASELINE])
def test_what_could_not_be_judged_is_not_called_harmless(verdict: Verdict) -> None:
    found = attributed([BLUR, finding("embedding_mmd", FUSED, verdict), finding("class_drift", FUSED)], before={})
    blur = one(found, "embedding_mmd", "image")
    assert not harmless(blur)
    assert "cannot be told" in blur.explanation
    assert not harmless(one(attributed([BLUR], before={}), "embedding_mmd", "image"))


def test_a_run_of_drift_keeps_its_beginning_and_a_pause_ends_it() -> None:
    earlier = START - timedelta(hours=5)
    running = attributed([BLUR, *CALM], before={("embedding_mmd", "image"): Before(Verdict.DRIFT, earlier)})
    assert running[0].details["since"] == earlier.isoformat()
    assert "since 2026-11-02 04:00 UTC" in running[0].explanation
    paused = attributed([BLUR, *CALM], before={("embedding_mmd", "image"): Before(Verdict.OK, None)})
    assert paused[0].details["since"] == START.isoformat()
    assert "since" not in paused[0].explanation


def test_fused_drift_says_what_it_is_and_what_it_is_not() -> None:
    fused, classes = finding("embedding_mmd", FUSED, Verdict.DRIFT), finding("class_drift", FUSED, Verdict.DRIFT)
    for each in attributed([fused, classes], before={}, prior_alone=True):
        assert "the mix of predicted classes moved; within classes nothing did" in each.explanation
        assert each.details["prior_alone"] is True
    with_image = attributed([BLUR, fused], before={}, prior_alone=False)
    assert "of the inputs, the image moved" in one(with_image, "embedding_mmd", FUSED).explanation
    mispaired = attributed([fused, finding("pairing", FUSED, Verdict.DRIFT)], before={}, prior_alone=False)
    assert "how they belong together" in one(mispaired, "embedding_mmd", FUSED).explanation


def test_the_shape_of_quality_is_a_note_without_consequences_and_a_ticket_with_them() -> None:
    shape = finding("quality_shape", "image", Verdict.DRIFT)
    rule = next(rule for rule in RULES if rule.covers(shape))
    alone = one(attributed([shape, *CALM], before={}), "quality_shape", "image")
    assert rule.signal(alone) is Signal.CLEAR
    unsure = [shape, *CALM, finding("confidence_drift", FUSED, Verdict.DRIFT)]
    told = attributed(unsure, before={})
    assert rule.signal(one(told, "quality_shape", "image")) is Signal.BREACH
    assert "with it moved the confidence" in one(told, "quality_shape", "image").explanation
    assert "of the inputs, the image moved" in one(told, "confidence_drift", FUSED).explanation


@pytest.mark.parametrize(("requests", "words"), [(1, "1 request"), (3, "3 requests")])
def test_broken_pairs_say_who_runs_late(requests: int, words: str) -> None:
    late = finding("misalignment", FUSED, Verdict.DRIFT, late={"modality": "text", "requests": requests})
    pairs = finding("pairing", FUSED, Verdict.DRIFT)
    assert attributed([pairs, late], before={})[0].explanation.endswith(f"; the text runs late by {words}.")
    assert "late" not in attributed([pairs, finding("misalignment", FUSED, late=None)], before={})[0].explanation
    assert "late" not in attributed([pairs], before={})[0].explanation


def test_the_source_of_most_is_named_but_a_single_one_is_no_news() -> None:
    two = {"image": (Source("camera-7", 40, 0.9), Source("camera-1", 460, 0.1))}
    named = attributed([BLUR, *CALM], before={}, sources=two)[0]
    assert named.explanation.endswith("most of it comes from source camera-7.")
    assert named.details["sources"][0] == {"source": "camera-7", "rows": 40, "share": 0.9}
    alone = attributed([BLUR, *CALM], before={}, sources={"image": (Source("camera-7", 500, 1.0),)})[0]
    assert "camera-7" not in alone.explanation


def test_what_does_not_drift_is_left_as_it_is() -> None:
    assert attributed(CALM, before={("pairing", FUSED): Before(Verdict.DRIFT, START)}) == CALM


CENTRES = np.random.default_rng(1).normal(size=(5, 64))
EVEN, UNEVEN = np.full(5, 0.2), np.array([0.6, 0.1, 0.1, 0.1, 0.1])


def summary(n: int, shares: np.ndarray[Any, Any], shift: float, seed: int) -> Summary:
    rng = np.random.default_rng(seed)
    classes = rng.choice(5, size=n, p=shares)
    features = CENTRES[classes] + rng.normal(size=(n, 64))
    features[:, :4] += shift
    return Summary(FUSED, {}, from_rows({"features": features, "classes": np.eye(5)[classes]}, 8))


@pytest.mark.parametrize("n", [200, 1000])
def test_a_moved_class_mix_is_told_from_moved_classes(n: int) -> None:
    baseline = summary(1000, EVEN, 0.0, 2)
    prior = within_classes(baseline, summary(n, UNEVEN, 0.0, 3))
    assert prior is not None
    assert prior.prior_alone
    for shares in (EVEN, UNEVEN):
        moved = within_classes(baseline, summary(n, shares, 0.5, 4))
        assert moved is not None
        assert not moved.prior_alone
        assert moved.within == pytest.approx(1.0, abs=0.3), "0.5 in each of four directions"
    still = within_classes(baseline, summary(n, EVEN, 0.0, 5))
    assert still is not None
    assert not still.prior_alone, "nothing moved, so nothing is explained"


def test_too_few_bins_or_columns_tell_nothing() -> None:
    assert within_classes(summary(100, EVEN, 0.0, 2), summary(500, EVEN, 0.0, 3)) is None
    bare = Summary(FUSED, {}, from_rows({"classes": np.eye(5)}, 1))
    assert within_classes(bare, bare) is None

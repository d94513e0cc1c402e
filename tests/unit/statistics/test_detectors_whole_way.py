"""From the worker's own summaries to verdicts: confidence, the shape of quality, misalignment and cost."""

from __future__ import annotations

import doctest
import importlib
from dataclasses import replace

import numpy as np
import pytest

from inference.baseline import Baseline
from migrations.schema.totals import STAGES
from monitor.detectors import catalogue, judge
from monitor.detectors._thresholds import learn
from monitor.detectors.base import Score, option_of
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, Evidence, Summary
from tests.support.streams import Fault, answers, baseline, evidence, reference

CALM = Fault()


@pytest.fixture(scope="module")
def made() -> Baseline:
    return baseline(1200, np.random.default_rng(21))


def seen(made: Baseline, fault: Fault, n: int = 600) -> Evidence:
    return evidence(made, answers(n, np.random.default_rng(22), fault), lag=np.zeros(n))


def judged(made: Baseline, detector: str, window: Summary) -> Score:
    return judge(catalogue()[detector], window.modality, reference(made), window)


def test_answers_that_are_less_sure(made: Baseline) -> None:
    score = judged(made, "confidence_drift", seen(made, Fault(unsure=0.2)).summaries[FUSED])
    assert score.verdict is Verdict.DRIFT
    assert score.details["mean_window"] - score.details["mean_baseline"] == pytest.approx(-0.19, abs=0.02)


def test_half_the_cameras_dark_and_half_bright_are_seen_by_the_shape_alone(made: Baseline) -> None:
    window = seen(made, Fault(split=True)).summaries["image"]
    score = judged(made, "quality_shape", window)
    assert score.verdict is Verdict.DRIFT
    assert [each["statistic"] for each in score.details["reshaped"]] == ["brightness"]
    assert judged(made, "quality", window).verdict is Verdict.OK


@pytest.mark.parametrize(("late", "modality"), [(1, "text"), (-2, "image")])
def test_a_modality_that_runs_late_is_named(made: Baseline, late: int, modality: str) -> None:
    score = judged(made, "misalignment", seen(made, Fault(late=late)).summaries[FUSED])
    assert score.details["late"] == {"modality": modality, "requests": abs(late)}
    assert "of which the baseline knows nothing" in score.explanation


def test_what_a_request_costs(made: Baseline) -> None:
    window = seen(made, CALM).summaries[FUSED]
    score = judged(made, "cost", window)
    # the stream's requests take as many milliseconds as they are sure
    assert score.value == pytest.approx(answers(600, np.random.default_rng(22)).confidence.mean(), rel=1e-3)
    assert score.details["baseline_ms"] is None, "a checkpoint's baseline measured no cost"
    assert set(score.details["latency_ms"]) == set(STAGES)
    total = score.details["latency_ms"]["total"]
    assert 10 < total["p50"] <= total["p95"] <= 20


def test_nothing_wrong_is_ok_everywhere_and_thresholds_are_learnt(made: Baseline) -> None:
    summaries = seen(made, CALM).summaries
    for name, modality in (("confidence_drift", FUSED), ("quality_shape", "image"), ("misalignment", FUSED)):
        assert judged(made, name, summaries[modality]).verdict is Verdict.OK
    period = replace(reference(made), summaries=seen(made, CALM, 2400).summaries)
    learnt = learn([period], 200).effects
    for name, modality in (("confidence_drift", FUSED), ("quality_shape", "image")):
        option = option_of(catalogue()[name])
        assert option == "effect"
        assert learnt[name][modality] > 0
    assert learnt.keys().isdisjoint({"misalignment", "cost"})


@pytest.mark.parametrize("name", ["confidence_drift", "cost", "misalignment", "quality_shape"])
def test_examples_in_the_docstrings_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"monitor.detectors.{name}"))
    assert found.attempted > 0
    assert found.failed == 0

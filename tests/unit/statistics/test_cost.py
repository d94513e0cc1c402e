"""Cost: by hand, against a baseline made from traffic, in money, and what nobody measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.schema.totals import LATENCY_EDGES_MS, histogram, merge
from monitor.detectors import catalogue, judge
from monitor.detectors.base import Score
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, Reference, Summary

DETECTOR = catalogue()["cost"]


def spent(requests: int, ms: float) -> Summary:
    """Requests that took the model `ms` each, and 15 ms in all."""
    totals = {
        "latency.total": histogram(np.full(requests, 15.0), LATENCY_EDGES_MS),
        "compute_us": [round(requests * 1000 * ms)],
    }
    return Summary(FUSED, {"rows": requests}, totals=totals)


def judged(current: Summary, before: Summary | None = None, **options: float) -> Score:
    known = None if before is None else Reference(1, "1", {FUSED: before})
    return judge(DETECTOR, FUSED, known, current, DETECTOR.options(**options))


def test_milliseconds_and_money_by_hand() -> None:
    score = judged(spent(400, 3.6), dollars_per_hour=2.5)
    assert score.value == pytest.approx(3.6)
    # a million requests of 3.6 ms are an hour
    assert score.details["dollars_per_million"] == pytest.approx(2.5)
    assert score.explanation == "A request takes 3.6 ms of the model's time; a million requests cost 2.50 dollars."


def test_a_target_is_held_without_a_baseline() -> None:
    assert judged(spent(400, 3)).verdict is Verdict.OK
    assert judged(spent(400, 3), target_ms=3.1).verdict is Verdict.OK
    over = judged(spent(400, 3), target_ms=2.9)
    assert (over.verdict, over.threshold) == (Verdict.DRIFT, 2.9)
    assert over.explanation == "A request takes 3 ms of the model's time, target 2.9 ms."


def test_a_rise_is_told_against_a_baseline_that_measured_cost() -> None:
    before = spent(2000, 2)
    assert judged(spent(400, 3.9), before).verdict is Verdict.OK
    risen = judged(spent(400, 4.1), before)
    assert (risen.verdict, risen.n_reference) == (Verdict.DRIFT, 2000)
    assert risen.effect == pytest.approx(1.05)
    assert risen.threshold == pytest.approx(4)
    assert "in the baseline 2 ms" in risen.explanation
    assert judged(spent(400, 2.7), before, rise=0.3).verdict is Verdict.DRIFT
    assert judged(spent(400, 1), before, rise=0.3).verdict is Verdict.OK
    assert judged(spent(400, 40), spent(20, 2)).verdict is Verdict.OK, "20 requests are no baseline"


def test_few_requests_are_no_trend_and_unmeasured_ones_no_data() -> None:
    few = judged(spent(99, 50), target_ms=1)
    assert few.verdict is Verdict.INSUFFICIENT
    assert few.value == pytest.approx(50)
    assert "99 requests are too few" in few.explanation
    assert judged(spent(400, 0)).verdict is Verdict.NO_DATA, "an observed model's time is nobody's to measure"
    assert judged(Summary(FUSED, {"rows": 400})).verdict is Verdict.NO_DATA


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0.01, 1000)), min_size=1, max_size=6))
def test_merged_windows_cost_what_all_their_requests_cost(parts: list[tuple[int, float]]) -> None:
    each = [spent(*part) for part in parts]
    whole = judged(Summary(FUSED, {}, totals=merge(one.totals for one in each)))
    micros = sum(round(n * 1000 * ms) for n, ms in parts)
    assert whole.value == pytest.approx(micros / 1000 / sum(n for n, _ in parts))

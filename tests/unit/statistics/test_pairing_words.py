"""Which way pairing moved, and how moved statistics are told."""

from __future__ import annotations

import numpy as np

from migrations.schema.bins import from_rows
from monitor.detectors import Score, catalogue, judge
from monitor.detectors._binned import told
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, Reference, Summary


def pairs(shift: float, seed: int) -> Summary:
    return Summary(
        FUSED, {}, from_rows({"pairing": np.random.default_rng(seed).normal(size=(800, 2)) + shift}, 8), "e1"
    )


def judged(shift: float) -> Score:
    return judge(catalogue()["pairing"], FUSED, Reference(1, "v1", {FUSED: pairs(0.0, 1)}), pairs(shift, 2))


def test_pairs_that_fit_worse_are_drift_and_pairs_that_fit_better_are_not() -> None:
    worse, better, same = judged(-0.5), judged(0.5), judged(0.0)
    assert worse.verdict is Verdict.DRIFT
    assert "fit each other worse" in worse.explanation
    assert better.verdict is Verdict.OK
    assert "fit each other better" in better.explanation
    assert better.p_value is not None
    assert better.p_value < 0.001, "the evidence is told all the same"
    assert "belong together as in the baseline" in same.explanation


def test_a_change_out_of_a_constant_is_told_by_its_values() -> None:
    moved = [
        {"statistic": "unknown_share", "effect": 2e8, "baseline": 0.0, "window": 0.2},
        {"statistic": "brightness", "effect": -2.13, "baseline": 0.5, "window": 0.2},
    ]
    assert told(moved) == "unknown share rose from 0 to 0.2, brightness fell by 2.1 sd"

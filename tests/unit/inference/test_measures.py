"""The figures of an evaluation report, against cases computed by hand and by definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from inference.training.measures import Share, by_class, confusion, quality, ranks, retrieval, wilson
from inference.training.page import points

NAMES = ("a", "b", "c")


@pytest.mark.parametrize(("right", "n"), [(0, 7), (81, 263), (5, 5), (1, 1000)])
def test_intervals_are_wilsons(right: int, n: int) -> None:
    low, high = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n) == pytest.approx((low, high), abs=1e-12)


def test_precision_recall_and_f1_by_hand() -> None:
    matrix = confusion(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0]), 3)
    assert matrix.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    first, second, third = by_class(matrix, NAMES)
    assert first == {
        "label": "a",
        "n": 3,
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
    }
    assert (second["precision"], second["recall"], second["f1"]) == (0.5, 0.5, 0.5)
    assert third == {"label": "c", "n": 0, "precision": None, "recall": None, "f1": None}


def test_quality_of_an_honest_and_of_an_overconfident_model() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 0.9, 4000)
    labels = np.where(rng.random(4000) < confidence, 0, 1)
    honest = np.stack([confidence, 1 - confidence, np.zeros(4000)], 1)
    found = quality(honest, labels, NAMES)
    accuracy, ece = found["accuracy"], found["ece"]
    assert isinstance(accuracy, dict)
    assert isinstance(ece, dict)
    assert accuracy["share"] == pytest.approx(float((labels == 0).mean()))
    assert accuracy["n"] == 4000
    assert ece["value"] < 0.02
    sure = np.tile([0.999, 0.001, 0.0], (4000, 1))
    worse = quality(sure, labels, NAMES)["ece"]
    assert isinstance(worse, dict)
    low, high = worse["interval"]
    assert low <= worse["value"] <= high
    assert worse["value"] == pytest.approx(0.999 - float((labels == 0).mean()), abs=0.005)


def test_ranks_count_every_candidate_that_is_as_near() -> None:
    candidates = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    queries = np.array([[3.0, 0.1], [0.0, 5.0], [1.0, 1.0]])
    assert ranks(queries, candidates, np.array([0, 1, 1])).tolist() == [2, 1, 4]
    same = np.ones((5, 2))
    assert ranks(same, same, np.arange(5)).tolist() == [5] * 5, "a space where all is one finds nothing"


def test_recall_and_reciprocal_rank_by_hand() -> None:
    found = retrieval(np.array([1, 2, 6, 20]), 30)
    assert [found[f"recall_at_{k}"] for k in (1, 5, 10)] == [Share(right, 4).told() for right in (1, 2, 3)]
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 20) / 4)
    assert found["candidates"] == 30


def test_a_share_of_no_rows_is_null() -> None:
    assert Share(0, 0).told() == {"share": None, "interval": None, "n": 0}


def test_a_curve_starts_at_the_left_and_ends_at_the_right() -> None:
    assert points([5, 10], [2.0, 0.0], 2.0) == "320.0,0.0 640.0,180.0"

"""Laws of totals: adding them up adds rows and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.schema.totals import LATENCY_EDGES_MS, Totals, TotalsError, at_most, histogram, merge, quantile

milliseconds = st.lists(st.floats(0, 20_000), max_size=40)
totals = st.dictionaries(st.sampled_from(["a", "b"]), st.tuples(st.integers(0, 9), st.integers(0, 2**70)))


@given(totals, totals, totals)
def test_adding_is_associative_and_commutative_and_has_an_empty_element(a: Totals, b: Totals, c: Totals) -> None:
    assert merge([merge([a, b]), c]) == merge([a, merge([b, c])])
    assert merge([a, b]) == merge([b, a])
    assert merge([{}, a, {}]) == merge([a])


@given(milliseconds, milliseconds)
def test_a_histogram_of_all_rows_is_the_sum_of_its_parts(a: list[float], b: list[float]) -> None:
    parts = merge([{"x": histogram(a, LATENCY_EDGES_MS)}, {"x": histogram(b, LATENCY_EDGES_MS)}])
    assert parts["x"] == histogram(a + b, LATENCY_EDGES_MS)


@given(milliseconds, st.sampled_from(LATENCY_EDGES_MS))
def test_rows_within_an_edge_are_counted_exactly(values: list[float], limit: int) -> None:
    assert at_most(histogram(values, LATENCY_EDGES_MS), limit) == sum(value <= limit for value in values)


def test_a_limit_between_the_edges_is_refused() -> None:
    with pytest.raises(TotalsError, match="within 51 cannot be counted"):
        at_most(histogram([1.0], LATENCY_EDGES_MS), 51)


def test_different_numbers_of_cells_are_refused() -> None:
    with pytest.raises(TotalsError, match="'a' has 2 cells in one summary and 3 in another"):
        merge([{"a": [1, 2]}, {"a": [1, 2, 3]}])


@given(st.lists(st.floats(0.01, 9_999), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_cell_of_the_true_one(values: list[float], share: float) -> None:
    edges = (0, *LATENCY_EDGES_MS)
    true = float(np.quantile(values, share, method="inverted_cdf"))
    cell = int(np.searchsorted(edges, true, side="left"))
    assert edges[cell - 1] <= quantile(histogram(values, LATENCY_EDGES_MS), share) <= edges[cell]


def test_without_rows_there_is_no_quantile_and_nan_is_counted_nowhere() -> None:
    assert math.isnan(quantile(histogram([float("nan")], LATENCY_EDGES_MS), 0.5))
    assert quantile(histogram([99_999.0], LATENCY_EDGES_MS), 0.5) == 10_000

"""Laws of bins: merging adds rows and nothing else, whatever the parts and their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from migrations.schema.bins import EMPTY, Bins, BinsError, dump, extend, from_rows, halve, level, load, merge

Values = NDArray[np.float32]
lawful = settings(max_examples=50)


def drawn(n: int, seed: int) -> Values:
    """Whole numbers, small enough to add up exactly in single precision, so that laws hold to the last bit."""
    return np.random.default_rng(seed).integers(-1000, 1000, (n, 3)).astype(np.float32)


rows = st.builds(drawn, st.integers(0, 60), st.integers(0, 2**32))
sizes = st.integers(1, 9)


def binned(values: Values, q: int) -> Bins:
    return from_rows({"features": values, "quality": values[:, :1]}, q)


def same(left: Bins, right: Bins) -> bool:
    return dump(left) == dump(right)


@lawful
@given(rows, rows, rows, sizes)
def test_merging_is_associative_and_has_an_empty_element(a: Values, b: Values, c: Values, q: int) -> None:
    left, middle, right = (binned(x, q) for x in (a, b, c))
    assert same(merge([merge([left, middle]), right]), merge([left, merge([middle, right])]))
    assert same(merge([EMPTY, left, EMPTY]), left)


@lawful
@given(rows, rows, sizes)
def test_merging_keeps_rows_and_totals_in_any_order(a: Values, b: Values, q: int) -> None:
    one, other = merge([binned(a, q), binned(b, q)]), merge([binned(b, q), binned(a, q)])
    assert one.rows == other.rows == len(a) + len(b)
    if one.rows:
        assert np.array_equal(one.total("features"), np.concatenate([a, b]).sum(axis=0, dtype=np.float64))
        assert np.array_equal(one.total("features"), other.total("features"))


@lawful
@given(rows, rows, sizes)
def test_extending_equals_dealing_all_rows_at_once(a: Values, b: Values, q: int) -> None:
    extended = extend(binned(a, q), {"features": b, "quality": b[:, :1]}, q)
    assert same(extended, binned(np.concatenate([a, b]), q))


@lawful
@given(rows, sizes)
def test_halving_equals_dealing_into_bins_twice_as_large(a: Values, q: int) -> None:
    assert same(halve(binned(a, q)), binned(a, 2 * q))


@lawful
@given(rows, sizes, st.integers(1, 40))
def test_levelling_gives_exactly_k_bins_and_loses_nothing(a: Values, q: int, k: int) -> None:
    fine = binned(a, q)
    coarse = level(fine, k)
    assert len(coarse.count) == min(k, len(fine.count))
    assert coarse.rows == fine.rows
    assert (coarse.count > 0).all()
    if fine.rows:
        assert np.array_equal(coarse.total("features"), fine.total("features"))


@lawful
@given(st.integers(8, 60), st.integers(2, 8))
def test_levelled_bins_differ_by_no_more_than_one_fine_bin(count: int, k: int) -> None:
    coarse = level(from_rows({"x": np.ones((count, 1), np.float32)}, 1), k)
    assert coarse.count.max() - coarse.count.min() <= 1


@lawful
@given(rows, sizes)
def test_the_stored_form_reads_back_unchanged(a: Values, q: int) -> None:
    stored = dump(binned(a, q))
    assert dump(load(stored)) == stored


@pytest.mark.parametrize("payload", [b"", b"nonsense", b"\x00" * 64, dump(binned(drawn(9, 0), 2))[:-1]])
def test_damaged_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(BinsError):
        load(payload)


def test_parts_with_different_columns_are_refused() -> None:
    one, other = from_rows({"a": np.ones((3, 1))}, 2), from_rows({"b": np.ones((3, 1))}, 2)
    with pytest.raises(BinsError, match="different columns"):
        merge([one, other])
    with pytest.raises(BinsError, match="numbers of rows"):
        from_rows({"a": np.ones((3, 1)), "b": np.ones((2, 1))}, 2)

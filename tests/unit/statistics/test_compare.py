"""Drift between arrays of rows: oracles, false alarms and power."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from monitor.detectors import compare
from monitor.detectors._pooled import pooled
from monitor.detectors.domain_classifier import auc
from monitor.detectors.embedding_kl import gaussian_kl
from monitor.detectors.embedding_mmd_exact import exact_mmd, median_distance
from monitor.domain.finding import Verdict
from tests.support import digits
from tests.support.synthetic import SHIFTS, Array, World, pairs

WORLD = World(d=64)


def plain_mmd(x: Array, y: Array, bandwidth: float) -> tuple[float, float]:
    """Unbiased and biased MMD², by two loops."""

    def kernel(a: Array, b: Array) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / (2 * bandwidth**2)))

    n, m = len(x), len(y)
    xx = sum(kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j)
    yy = sum(kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j)
    xy = sum(kernel(a, b) for a in x for b in y)
    unbiased = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)
    return unbiased, (xx + n) / n**2 + (yy + m) / m**2 - 2 * xy / (n * m)


@settings(max_examples=15)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 4), st.integers(0, 99))
def test_the_exact_mmd_is_that_of_two_loops(n: int, m: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(0.5, 2, (m, d))
    labels = np.repeat(np.array([1, 0], np.float32), [n, m])[:, None]
    found = exact_mmd(np.concatenate([x, y]).astype(np.float32), labels, 1.5)
    assert (found.unbiased[0], found.biased[0]) == pytest.approx(plain_mmd(x, y, 1.5), abs=1e-5)


def test_tiles_of_the_gram_matrix_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    labels = (np.random.default_rng(1).random((50, 7)) < 0.5).astype(np.float32)
    whole = exact_mmd(rows, labels, 1.0)
    monkeypatch.setattr("monitor.detectors.embedding_mmd_exact.TILE", 16)
    assert exact_mmd(rows, labels, 1.0).unbiased == pytest.approx(whole.unbiased, abs=1e-6)


def test_the_exact_mmd_through_the_door() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(70, 3)), rng.normal(0.8, 1, (61, 3))
    score = compare("embedding_mmd_exact", x, y)
    both = np.concatenate([x, y])
    apart = np.linalg.norm(both[:, None] - both, axis=2)
    median = float(np.median(apart[np.triu_indices(len(both), 1)]))
    assert score.details["bandwidth"] == pytest.approx(median, rel=1e-4)
    assert (score.value, score.details["biased"]) == pytest.approx(plain_mmd(x, y, median), abs=1e-5)
    assert median_distance(both.astype(np.float32)) == pytest.approx(median, rel=1e-4)
    assert compare("embedding_mmd_exact", x, y, bandwidth=2.0).value == pytest.approx(plain_mmd(x, y, 2.0)[0], abs=1e-5)


def test_sessions_fool_a_permutation_of_rows_and_not_one_of_bins() -> None:
    rng = np.random.default_rng(3)
    flagged = {1: 0, 8: 0}
    for _ in range(30):
        x, y = (WORLD.rows(256, rng, session=8) for _ in range(2))
        for q in flagged:
            score = compare("embedding_mmd_exact", x, y, rows_a_bin=q, permutations=99)
            flagged[q] += score.verdict is Verdict.DRIFT
    assert flagged[1] >= 25
    assert flagged[8] <= 6  # 1.5 expected; more than 6 is below 1 in 1000


def test_gaussian_divergence_by_hand() -> None:
    one, four = np.eye(1), 4 * np.eye(1)
    # ½ (4 + 3² - 1 + ln 1/4) and ½ (1/4 + 3²/4 - 1 + ln 4)
    assert gaussian_kl(np.zeros(1), one, np.full(1, 3.0), four) == pytest.approx((4 + 9 - 1 - np.log(4)) / 2)
    assert gaussian_kl(np.zeros(1), four, np.full(1, 3.0), one) == pytest.approx((0.25 + 2.25 - 1 + np.log(4)) / 2)


def test_the_divergence_is_debiased_and_its_interval_holds_the_truth() -> None:
    rng = np.random.default_rng(4)
    null, apart = [], []
    for _ in range(20):
        x, y = rng.normal(size=(400, 6)), rng.normal(size=(400, 6))
        null.append(compare("embedding_kl", x, y, permutations=19).details)
        apart.append(compare("embedding_kl", x, y + np.eye(6)[0], permutations=19))
    assert np.mean([each["plain"] for each in null]) > 0.03
    assert abs(np.mean([each["debiased"] for each in null])) < 0.006
    assert np.mean([each.value for each in apart]) == pytest.approx(0.5, abs=0.05)
    assert sum(each.interval[0] <= 0.5 <= each.interval[1] for each in apart if each.interval) >= 15


def test_the_area_under_the_curve_agrees_with_scipy() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 9, 40).astype(float), rng.integers(2, 11, 30).astype(float)
    area, above, below = auc(x, y)
    assert area == pytest.approx(stats.mannwhitneyu(y, x).statistic / (40 * 30))
    assert (above.mean(), below.mean()) == pytest.approx((area, area))


def test_columns_depend_on_the_rows_and_not_on_their_order() -> None:
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(128, 6)).astype(np.float32)
    order = rng.permutation(16)
    shuffled = rows.reshape(16, 8, 6)[order].reshape(128, 6)
    for one, other in zip(pooled(rows, 8).families, pooled(shuffled, 8).families, strict=True):
        gram, again = one.bins[order] @ one.bins[order].T, other.bins @ other.bins.T
        assert again == pytest.approx(gram, abs=1e-2)


def test_false_alarms_at_a_tenth_with_and_without_sessions() -> None:
    """At α = 0.1, 6 of 60 are expected; more than 14 is below 1 in 1000."""
    rng = np.random.default_rng(7)
    for session in (1, 8):
        scores = [
            compare("embedding_mmd", *(WORLD.rows(256, rng, session=session) for _ in range(2)), permutations=299)
            for _ in range(60)
        ]
        assert sum((each.p_value or 0) <= 0.1 for each in scores) <= 14


def test_bins_that_share_sessions_are_joined() -> None:
    """Sessions of 8 that begin within a bin: at α = 0.05 about 4 of 40 are expected, far more where bins stay apart."""
    rng = np.random.default_rng(16)
    scores = [
        compare("embedding_mmd", *(WORLD.rows(515, rng, session=8)[3:] for _ in range(2)), permutations=199)
        for _ in range(40)
    ]
    assert all(each.details["rows_a_bin"] >= 16 for each in scores)
    assert sum(each.verdict is Verdict.DRIFT for each in scores) <= 12


@pytest.mark.parametrize("name", [name for name in SHIFTS if name != "class_prior_5%"])
def test_shifts_are_found(name: str) -> None:
    rng, world = np.random.default_rng(8), World(d=512)
    found = [compare("embedding_mmd", world.rows(512, rng), SHIFTS[name](world, 512, rng)) for _ in range(3)]
    assert sum(each.verdict is Verdict.DRIFT for each in found) >= 2


@pytest.mark.parametrize("name", digits.SHIFTS)
def test_shifts_of_real_pictures_are_found(name: str) -> None:
    rng = np.random.default_rng(9)
    rows = digits.digits()[rng.permutation(1797)]
    score = compare("embedding_mmd", rows[:512], digits.SHIFTS[name](rows[512:1024], rng))
    assert score.verdict is Verdict.DRIFT


def test_a_new_cluster_is_told_as_a_neighbourhood_that_filled() -> None:
    rng, world = np.random.default_rng(10), World(d=512)
    score = compare("embedding_mmd", world.rows(512, rng), SHIFTS["new_cluster_10%"](world, 512, rng))
    first = score.details["neighbourhoods"][0]
    assert first["after"] == pytest.approx(0.1, abs=0.04)
    assert first["before"] < 0.01


def test_mispaired_rows_are_found_where_no_marginal_moves() -> None:
    rng = np.random.default_rng(11)
    known, mixed = pairs(500, rng, d=64), pairs(500, rng, d=64, mispaired=0.2)
    score = compare("pairing", known, mixed)
    assert score.verdict is Verdict.DRIFT
    assert (score.value or 0) < 0
    assert [compare("embedding_mmd", *sides).verdict for sides in zip(known, mixed, strict=True)] == [Verdict.OK] * 2


def test_another_mix_of_pairs_is_no_broken_pairing() -> None:
    rng = np.random.default_rng(12)
    scores = [compare("pairing", pairs(500, rng, d=64), pairs(500, rng, d=64, prior_shift=0.2)) for _ in range(10)]
    assert sum(each.verdict is Verdict.DRIFT for each in scores) <= 2

"""Reliability bins and their error, against cases worked by hand and a calibrated model."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.domain.intervals import wilson
from monitor.domain.reliability import calibration_error, reliability_bins
from monitor.web.plots import reliability_floor, reliability_marks


def test_wilson_as_published() -> None:
    # Newcombe (1998), Statistics in Medicine 17:857, table I: 81/263, 15/148, 0/20, 1/29
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)
    for wrong in ((1, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="is no share"):
            wilson(*wrong)


def test_bins_hold_equal_numbers_in_order_of_confidence() -> None:
    first, second = reliability_bins([0.9, 0.5, 0.7, 0.6], [True, False, True, True], bins=2)
    assert (first.count, first.accuracy, first.low, first.high) == (2, 0.5, 0.5, 0.6)
    assert (first.confidence, second.confidence, second.accuracy) == pytest.approx((0.55, 0.8, 1.0))
    assert reliability_bins([], []) == ()
    assert calibration_error(()) is None
    assert len(reliability_bins([0.5], [True])) == 1


def test_debiasing_takes_the_noise_of_sampling_away() -> None:
    rng = np.random.default_rng(3)
    debiased, plain = [], []
    for _ in range(200):
        confidence = rng.uniform(0.5, 1, 200)
        bins = reliability_bins(confidence, rng.random(200) < confidence)
        debiased.append(calibration_error(bins) or 0.0)
        plain.append(sum(each.count * abs(each.accuracy - each.confidence) for each in bins) / 200)
    assert np.mean(plain) > 0.05
    assert np.mean(debiased) < 0.6 * np.mean(plain)


def test_a_known_gap_is_found() -> None:
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.7, 1, 20_000)
    bins = reliability_bins(confidence, rng.random(20_000) < confidence - 0.1)
    assert calibration_error(bins) == pytest.approx(0.1, abs=0.01)
    assert all(mark.off for mark in reliability_marks(bins))


def test_marks_lie_within_the_diagram() -> None:
    bins = reliability_bins(np.linspace(0.62, 0.99, 400), np.arange(400) % 5 > 0)
    floor = reliability_floor(bins)
    assert floor == 0.6
    for mark in reliability_marks(bins, floor, side=300):
        assert 0 <= mark.x <= 300
        assert 0 <= mark.y_high <= mark.y <= mark.y_low <= 300

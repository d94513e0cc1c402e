"""Every detector through the notebook door: the same promises for all, the forms of arrays, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from scipy import stats

from monitor.detectors import compare
from monitor.detectors._compare import DOORS
from monitor.domain.finding import Verdict
from tests.support.synthetic import World, pairs

EMBEDDINGS = ("embedding_mmd", "embedding_mmd_exact", "embedding_kl", "domain_classifier")
WORLD = World(d=64)


def drawn(name: str, n: int, seed: int) -> Any:
    """Drift-free rows in the form that the detector takes."""
    rng = np.random.default_rng(seed)
    if name == "pairing":
        return pairs(n, rng, d=64)
    if name == "class_drift":
        return rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    if name == "agreement":
        return rng.random((n, 1)) < 0.9
    if name == "availability":
        return np.arange(n)[:, None] % 500 > 0 if n > 1 else np.ones((1, 1))
    if name == "calibration":
        confidence = rng.uniform(0.5, 1, n)
        return np.column_stack([confidence, rng.random(n) < confidence])
    return WORLD.rows(n, rng)


@pytest.mark.parametrize("name", sorted(DOORS))
class TestEvery:
    def test_drift_free_rows_are_ok_and_the_score_is_complete(self, name: str) -> None:
        score = compare(name, drawn(name, 640, 1), drawn(name, 560, 2))
        assert score.verdict is Verdict.OK, score
        assert (score.n_reference, score.n_current) == (640, 560)
        assert score.explanation.endswith(".")
        assert score.value is not None
        assert 0.05 < (score.p_value or 0) <= 1
        json.dumps(asdict(score), allow_nan=False)
        if score.interval is not None:
            assert score.interval[0] <= score.value <= score.interval[1]

    def test_a_sample_has_not_drifted_from_itself(self, name: str) -> None:
        rows = drawn(name, 640, 3)
        assert compare(name, rows, rows).verdict is Verdict.OK

    def test_the_same_rows_give_the_same_score(self, name: str) -> None:
        rows = drawn(name, 200, 4), drawn(name, 200, 5)
        assert compare(name, *rows) == compare(name, *rows)

    @pytest.mark.parametrize("n", [1, 2, 7])
    def test_a_handful_of_rows_is_insufficient(self, name: str, n: int) -> None:
        score = compare(name, drawn(name, 200, 6), drawn(name, n, 7))
        assert score.verdict is Verdict.INSUFFICIENT
        assert "few" in score.explanation

    def test_nan_is_refused_with_its_place(self, name: str) -> None:
        rows = drawn(name, 100, 8)
        wrong = np.array(rows[1] if name == "pairing" else rows, np.float64).reshape(100, -1)
        wrong[17, 0] = np.nan
        with pytest.raises(ValueError, match="NaN at row 17, column 0"):
            compare(name, rows, (rows[0], wrong) if name == "pairing" else wrong)

    def test_an_empty_side_is_refused(self, name: str) -> None:
        rows = drawn(name, 100, 9)
        empty = (rows[0][:0], rows[1][:0]) if name == "pairing" else rows[:0]
        with pytest.raises(ValueError, match="current is empty"):
            compare(name, rows, empty)

    def test_unknown_options_and_wrong_values_are_refused(self, name: str) -> None:
        rows = drawn(name, 100, 10)
        with pytest.raises(ValueError, match=r"no option 'alfa'; known are .*"):
            compare(name, rows, rows, alfa=0.1)
        key = "target" if name == "availability" else "alpha"
        with pytest.raises(ValueError, match=f"{key} must be a number, got 'small'"):
            compare(name, rows, rows, **{key: "small"})

    def test_half_precision_is_taken(self, name: str) -> None:
        rows = [drawn(name, 640, 11), drawn(name, 560, 12)]
        if name in ("pairing", "calibration", *EMBEDDINGS):
            halves: list[Any] = [
                tuple(np.float16(part) for part in side) if name == "pairing" else np.float16(side) for side in rows
            ]
            assert compare(name, *halves).verdict is Verdict.OK


def test_an_unknown_detector_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'mmd' is unknown; known are agreement, .*pairing"):
        compare("mmd", [[1.0]], [[1.0]])
    with pytest.raises(ValueError, match="reads labels or summaries"):
        compare("accuracy", [[1.0]], [[1.0]])


@pytest.mark.parametrize("name", EMBEDDINGS)
class TestEmbeddings:
    def test_another_width_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="reference has 8 columns and current 5"):
            compare(name, np.zeros((90, 8)), np.zeros((90, 5)))

    def test_text_and_cubes_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="must hold numbers"):
            compare(name, np.array([["a"]]), np.zeros((1, 1)))
        with pytest.raises(ValueError, match="shaped"):
            compare(name, np.zeros((2, 2, 2)), np.zeros((1, 1)))

    @pytest.mark.parametrize(("value", "moved"), [(1.0, False), (2.0, True)])
    def test_constants_give_finite_numbers(self, name: str, value: float, moved: bool) -> None:
        score = compare(name, np.ones((160, 3)), np.full((160, 3), value))
        numbers = [score.value, score.p_value, score.effect, *(score.interval or ())]
        assert all(np.isfinite(each) for each in numbers if each is not None)
        assert (score.verdict is Verdict.DRIFT) == moved

    def test_constant_columns_change_nothing(self, name: str) -> None:
        x, y = (np.random.default_rng(seed).normal(size=(240, 5)) for seed in (1, 2))
        wider = [np.hstack([side, np.full((240, 2), 7.0)]) for side in (x, y)]
        one, other = compare(name, x, y), compare(name, *wider)
        assert other.p_value == pytest.approx(one.p_value, abs=0.02)
        assert other.value == pytest.approx(one.value, abs=1e-3)

    def test_units_and_origin_do_not_matter_to_the_evidence(self, name: str) -> None:
        x, y = (np.random.default_rng(seed).normal(seed / 8, 1, (240, 5)) for seed in (1, 2))
        one = compare(name, x, y)
        for scale, shift in ((1e-20, 0.0), (1e9, 0.0), (1.0, 100.0)):
            other = compare(name, x * scale + shift, y * scale + shift)
            assert other.p_value == pytest.approx(one.p_value, abs=0.02)

    def test_more_contamination_is_more_drift(self, name: str) -> None:
        rng = np.random.default_rng(3)
        x, y = WORLD.rows(480, rng), WORLD.rows(480, rng)
        far = y + 0.5 * np.eye(64)[0]
        values = [compare(name, x, np.where(np.arange(480)[:, None] % 8 < k, far, y)).value or 0 for k in (0, 2, 4, 8)]
        assert values == sorted(values)
        assert compare(name, x, far).verdict is Verdict.DRIFT

    def test_exchanging_the_sides_keeps_a_symmetric_answer(self, name: str) -> None:
        rng = np.random.default_rng(5)
        x, y = WORLD.rows(320, rng), WORLD.rows(320, rng) + 0.3 * np.eye(64)[0]
        one, other = compare(name, x, y), compare(name, y, x)
        assert one.verdict is other.verdict is Verdict.DRIFT


def test_pairs_that_do_not_match_are_refused() -> None:
    x = np.zeros((90, 3))
    with pytest.raises(ValueError, match="pair of arrays"):
        compare("pairing", x, (x, x))
    with pytest.raises(ValueError, match="90 images and 89 texts"):
        compare("pairing", (x, x[1:]), (x, x))


def test_forms_of_classes() -> None:
    rng = np.random.default_rng(13)
    numbers = rng.integers(0, 3, 300), rng.integers(0, 2, 300)
    words = [np.array(["cat", "dog", "owl"])[side] for side in numbers]
    likely = [0.7 * np.eye(3)[side] + 0.1 for side in numbers]
    scores = [compare("class_drift", *sides) for sides in (numbers, [side[:, None] for side in numbers], words, likely)]
    assert len({(each.value, each.p_value, each.verdict) for each in scores}) == 1
    assert "owl" in scores[2].explanation
    with pytest.raises(ValueError, match="sum to one"):
        compare("class_drift", 2 * likely[0], likely[1])
    with pytest.raises(ValueError, match="both hold strings"):
        compare("class_drift", words[0], numbers[1])


def test_forms_of_agreement_and_presence() -> None:
    heads = np.random.default_rng(14).integers(0, 2, (300, 3))
    agree = (heads == heads[:, :1]).all(axis=1)
    assert compare("agreement", heads, heads) == compare("agreement", agree, agree)
    rows = np.ones((300, 4))
    rows[:30, 2] = np.nan
    score = compare("availability", None, rows)
    assert (score.value, score.verdict) == (0.9, Verdict.DRIFT)
    assert score == compare("availability", [], np.arange(300) >= 30)
    assert score.p_value == pytest.approx(stats.binomtest(270, 300, 0.99, "less").pvalue)
    with pytest.raises(ValueError, match="0 and 1 only, got 2"):
        compare("agreement", [1, 2], [1, 0])


def test_calibration_tells_the_reference_where_there_is_one() -> None:
    rng = np.random.default_rng(15)
    confidence = rng.uniform(0.5, 1, 1000)
    good = np.column_stack([confidence, rng.random(1000) < confidence])
    over = np.column_stack([confidence, rng.random(1000) < confidence - 0.2])
    score = compare("calibration", good, over)
    assert score.verdict is Verdict.DRIFT
    assert (score.value or 0) == pytest.approx(0.2, abs=0.04)
    assert score.details["reference"] < 0.03
    assert compare("calibration", None, over).value == score.value
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        compare("calibration", None, [[1.5, 1]])

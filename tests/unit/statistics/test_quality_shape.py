"""Quality shape: laws, false alarms with and without sessions, and changes that leave every mean alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from migrations.schema.bins import SHAPE_CELLS, from_rows
from monitor.detectors import catalogue, judge
from monitor.detectors._aggregated import Family
from monitor.detectors._aggregated import test as aggregated
from monitor.detectors.base import Score
from monitor.domain.finding import Verdict
from monitor.domain.window import IncomparableError, Reference, Summary

DETECTOR = catalogue()["quality_shape"]
FEW = DETECTOR.options(permutations=499)
NAMES = ("brightness", "noise", "edge_width")
EDGES = stats.norm.ppf(np.arange(1, SHAPE_CELLS) / SHAPE_CELLS)
Array = NDArray[np.float64]


def drawn(n: int, rng: np.random.Generator, session: int = 1) -> Array:
    """(n, 3) standard normal statistics; near-duplicates of a session follow one another and begin anywhere."""
    own = rng.normal(size=(n // session + 2, 3)).repeat(session, axis=0)
    start = int(rng.integers(session))
    rows: Array = own[start : start + n]
    return rows if session == 1 else np.sqrt(0.95) * rows + np.sqrt(0.05) * rng.normal(size=rows.shape)


def summary(values: Array) -> Summary:
    cells = (values[:, :, None] > EDGES).sum(axis=2)
    return Summary("image", {}, from_rows({"shape": np.eye(SHAPE_CELLS)[cells].reshape(len(values), -1)}, 8))


def judged(before: Array, after: Array, **options: float) -> Score:
    known = Reference(1, "1", {"image": summary(before)}, names={"image": NAMES})
    return judge(DETECTOR, "image", known, summary(after), replace(FEW, **options))


@given(st.integers(0, 10_000), st.floats(-5, 5), st.floats(0.1, 10))
def test_a_window_has_not_drifted_from_itself(seed: int, shift: float, scale: float) -> None:
    rows = scale * drawn(160, np.random.default_rng(seed)) + shift
    score = judged(rows, rows)
    assert (score.verdict, score.effect) == (Verdict.OK, 0)


@given(st.integers(0, 1000), st.permutations(range(3)))
def test_the_order_of_statistics_does_not_matter(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    before, after = drawn(160, rng), drawn(160, rng)
    one, other = judged(before, after), judged(before[:, order], after[:, order])
    assert one.effect == other.effect
    assert one.p_value == pytest.approx(other.p_value, abs=1e-9)


def test_the_effect_is_the_total_variation_distance_by_hand() -> None:
    before = np.zeros((160, 3)) + np.tile([[-3.0], [3.0]], (80, 1))
    after = before.copy()
    after[:80:2, 1] = 0.01  # a quarter of the rows leave the lowest cell
    assert judged(before, after).effect == pytest.approx(0.25)


def test_adjusted_p_values_are_those_of_the_largest_of_all() -> None:
    """The same maxT adjustment worked out anew, from exactly the permutations that the test drew."""
    rng = np.random.default_rng(2)
    bins = rng.normal(size=(20, 3))
    bins[10:, 1] += 1.5
    found = aggregated([Family(str(i), bins[:, [i]], (1,)) for i in range(3)], 10, 999, 0)
    assert found.p_value == found.by_family.min() == found.by_family[1]
    alone = [aggregated([Family("", bins[:, [i]], (1,))], 10, 999, 0).p_value for i in range(3)]
    assert (found.by_family >= np.array(alone) - 1e-12).all()
    assert (found.by_family <= np.minimum(1, 3 * np.array(alone)) + 0.03).all()


@pytest.mark.parametrize("session", [1, 8])
@pytest.mark.parametrize(("n", "m"), [(512, 512), (400, 2000)])
def test_false_alarms_at_a_twentieth_with_and_without_sessions(session: int, n: int, m: int) -> None:
    """200 drift-free windows over three statistics: 10 expected; 24 or more have a chance of 1 in 10,000."""
    rng = np.random.default_rng(3)
    scores = [judged(drawn(m, rng, session), drawn(n, rng, session)) for _ in range(200)]
    assert sum((score.p_value or 0) <= 0.05 for score in scores) < 24


def test_as_the_service_is_set_few_sessions_are_no_drift() -> None:
    rng = np.random.default_rng(4)
    for _ in range(60):
        assert judged(drawn(1000, rng, 8), drawn(200, rng, 8), permutations=9999).verdict is Verdict.OK


def test_wider_narrower_and_split_are_found_each_time_with_the_mean_where_it_was() -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        before, calm = drawn(1000, rng), drawn(400, rng)
        for changed in (2.5 * calm[:, 0], 0.3 * calm[:, 0], np.sign(calm[:, 0]) * (1.5 + 0.2 * calm[:, 2])):
            after = calm.copy()
            after[:, 0] = changed
            score = judged(before, after, permutations=9999)
            assert score.verdict is Verdict.DRIFT
            assert [each["statistic"] for each in score.details["reshaped"]] == ["brightness"]


def test_the_words_name_the_statistic_and_the_ranges() -> None:
    rng = np.random.default_rng(6)
    before, after = drawn(1000, rng), drawn(400, rng)
    after[:, 2] = np.where(rng.random(400) < 0.5, -2, 2)
    said = judged(before, after, permutations=9999).explanation
    assert said.startswith(
        "The image inputs are spread differently: edge width gathers in the lowest and highest of 8 ranges (2"
    )
    assert said.endswith("% of rows before, 100% now) and leaves the 2nd, 3rd, 4th, 5th, 6th and 7th.")


def test_constants_stay_silent_and_a_constant_that_changes_is_told() -> None:
    rng = np.random.default_rng(7)
    before, after = drawn(400, rng), drawn(400, rng)
    before[:, 1] = after[:, 1] = 4
    assert judged(before, after).verdict is Verdict.OK
    after[:, 1] = -4
    score = judged(before, after, permutations=9999)
    assert (score.verdict, score.effect) == (Verdict.DRIFT, 1)
    constant = judged(np.zeros((200, 3)), np.zeros((200, 3)))
    assert (constant.verdict, constant.p_value, constant.effect) == (Verdict.OK, 1, 0)


def test_a_column_of_other_width_is_refused() -> None:
    known = Reference(1, "1", {"image": Summary("image", {}, from_rows({"shape": np.ones((200, 9))}, 8))})
    window = Summary("image", {}, from_rows({"shape": np.ones((200, 9))}, 8))
    with pytest.raises(IncomparableError, match="9 values are no whole number of statistics in 8 cells"):
        judge(DETECTOR, "image", known, window)

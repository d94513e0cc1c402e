"""The contribution detector against SciPy, the jackknife and hand-made worlds."""

from __future__ import annotations

import doctest
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import monitor.detectors.contribution
from migrations.schema.bins import Bins, from_rows
from monitor.detectors import catalogue, judge
from monitor.detectors.base import Score
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, IncomparableError, Reference, Summary
from tests.support.streams import answers, baseline, evidence, reference

Array = NDArray[np.float64]
INPUTS = {name: Summary(name) for name in ("text", "image")}


def losses(n: int, rng: np.random.Generator, image: float = 0.3, text: float = 0.45, *, session: int = 1) -> Array:
    """(N, 2), each beta-distributed with these means: spread over [0, 1] as real ones are, alike within a session."""
    drawn = [rng.beta(2 * mean, 2 * (1 - mean), -(-n // session)) for mean in (image, text)]
    return np.repeat(np.stack(drawn, axis=1), session, axis=0)[:n]


def summary(
    lost: Array, *, measured: NDArray[np.bool_] | None = None, classes: NDArray[np.intp] | None = None
) -> Summary:
    """Fused rows in bins of 8, of which some were measured."""
    known = np.ones(len(lost), np.bool_) if measured is None else measured
    columns: dict[str, Array] = {
        "contribution": np.column_stack([lost, np.ones(len(lost))]) * known[:, None].astype(np.float64)
    }
    if classes is not None:
        columns["classes"] = np.eye(3)[classes]
    return Summary(FUSED, {}, from_rows(columns, 8))


def judged(before: Summary, after: Summary, **options: Any) -> Score:
    detector = catalogue()["contribution"]
    known = Reference(1, "1", {**INPUTS, FUSED: before})
    return judge(detector, FUSED, known, after, detector.options(**options))


def test_where_all_rows_are_measured_it_is_welchs_test_on_bin_means() -> None:
    rng = np.random.default_rng(0)
    before, after = losses(256, rng), losses(256, rng, image=0.34)
    score = judged(summary(before), summary(after), bins=32)
    means = [side.reshape(32, 8, 2).mean(axis=1) for side in (before, after)]
    expected = stats.ttest_ind(*means, equal_var=False).pvalue
    found = [score.details["contributions"][name]["p_value"] for name in ("image", "text")]
    assert found == pytest.approx(np.minimum(1, 2 * expected), rel=1e-4)
    assert score.details["contributions"]["image"]["window"] == pytest.approx(after[:, 0].mean(), rel=1e-5)


def test_the_interval_agrees_with_a_jackknife_over_bins() -> None:
    rng = np.random.default_rng(1)
    lost, measured = losses(256, rng), rng.random(256) < 0.5
    score = judged(summary(losses(256, rng)), summary(lost, measured=measured), bins=32)
    sums = (lost * measured[:, None]).reshape(32, 8, 2).sum(axis=1)
    counts = measured.reshape(32, 8).sum(axis=1)
    left_out = (sums.sum(axis=0) - sums) / (counts.sum() - counts)[:, None]
    sd = np.sqrt(31 / 32 * np.square(left_out - left_out.mean(axis=0)).sum(axis=0))
    for i, name in enumerate(("image", "text")):
        found = score.details["contributions"][name]
        low, high = found["interval"]
        assert found["window"] == pytest.approx(lost[measured, i].mean(), rel=1e-5)
        assert (high - low) / 2 == pytest.approx(stats.t.isf(0.025, 31) * sd[i], rel=0.05)
        assert low < found["window"] < high


def test_the_example_in_the_docstring_is_what_it_says() -> None:
    found = doctest.testmod(monitor.detectors.contribution)
    assert found.failed == 0
    assert found.attempted > 0


def test_the_same_contributions_are_no_drift() -> None:
    lost = losses(800, np.random.default_rng(2))
    score = judged(summary(lost), summary(lost))
    assert (score.verdict, score.effect, score.p_value) == (Verdict.OK, 0.0, 1.0)
    assert "the image 3" in score.explanation


@pytest.mark.parametrize(
    ("image", "text", "words"),
    [
        (0.02, 0.45, "The model hardly goes by the image any more"),
        (0.1, 0.45, "The model goes less by the image: it contributes "),
        (0.3, 0.7, "The model leans more on the text"),
        (0.02, 0.7, "hardly goes by the image any more: it contributes"),
    ],
)
def test_a_changed_contribution_is_named_and_measured(image: float, text: float, words: str) -> None:
    rng = np.random.default_rng(3)
    score = judged(summary(losses(1600, rng)), summary(losses(800, rng, image, text)))
    assert score.verdict is Verdict.DRIFT
    assert words in score.explanation
    assert score.effect == pytest.approx(max(0.3 - image, text - 0.45), abs=0.04)
    assert ("text" in score.explanation) == (text != 0.45)
    assert score.interval is not None
    assert score.value is not None
    assert score.interval[0] < score.value < score.interval[1]


def test_a_change_below_the_threshold_is_none_however_sure_it_is() -> None:
    rng = np.random.default_rng(4)
    score = judged(summary(losses(8000, rng)), summary(losses(8000, rng, image=0.24)))
    assert score.verdict is Verdict.OK
    assert (score.p_value or 1) < 1e-6
    assert (
        judged(summary(losses(8000, rng)), summary(losses(8000, rng, image=0.24)), effect=0.05).verdict is Verdict.DRIFT
    )


def test_rows_that_were_not_measured_change_nothing() -> None:
    rng = np.random.default_rng(5)
    before, lost = summary(losses(800, rng)), losses(240, rng, image=0.1)
    sparse = np.zeros((2400, 2))
    measured = np.repeat(np.arange(300) % 10 == 0, 8)  # one bin in ten
    sparse[measured] = lost
    dense, thin = judged(before, summary(lost)), judged(before, summary(sparse, measured=measured))
    assert replace(thin, p_value=dense.p_value) == dense
    assert thin.n_current == 240


@pytest.mark.parametrize(("n", "spread_over"), [(60, 60), (600, 32)])
def test_too_little_is_insufficient_and_says_what_could_have_been_seen(n: int, spread_over: int) -> None:
    rng = np.random.default_rng(6)
    lost = losses(n, rng, image=0.0001)
    score = judged(summary(losses(1600, rng)), summary(lost, measured=np.arange(n) < spread_over))
    assert score.verdict is Verdict.INSUFFICIENT
    assert f"{spread_over} measured requests" in score.explanation
    # of 60 rows with a standard deviation of about 0.29, at this level: 0.29 * (3.7 + 0.8) / sqrt(60)
    assert "points of confidence could have been seen" in score.explanation
    assert float(score.explanation.split("change of ")[1].split()[0]) == pytest.approx(
        450 * 0.29 / spread_over**0.5, rel=0.2
    )


def test_what_was_never_measured_is_no_data_and_what_the_baseline_lacks_no_baseline() -> None:
    rng = np.random.default_rng(7)
    some, none = summary(losses(400, rng)), summary(losses(400, rng), measured=np.zeros(400, np.bool_))
    assert judged(some, none).verdict is Verdict.NO_DATA
    assert judged(none, some).verdict is Verdict.NO_BASELINE


def test_other_modalities_than_the_baselines_are_refused() -> None:
    rng = np.random.default_rng(8)
    with pytest.raises(IncomparableError, match="1 modalities, its baseline of 2"):
        judged(summary(losses(400, rng)), summary(losses(400, rng)[:, :1]))


def test_a_class_mix_that_explains_it_is_named() -> None:
    """Each class has its own contributions; then another mix of classes, then one class that lost its image."""
    rng = np.random.default_rng(9)
    own = np.array([[0.7, 0.5], [0.1, 0.4], [0.3, 0.6]])

    def world(prior: list[float], means: Array) -> Summary:
        classes = rng.choice(3, 2400, p=prior)
        return summary(np.clip(means[classes] + rng.normal(0, 0.1, (2400, 2)), -1, 1), classes=classes)

    before = world([0.4, 0.3, 0.3], own)
    mixed = judged(before, world([0.1, 0.7, 0.2], own))
    lost = judged(before, world([0.4, 0.3, 0.3], own - [[0.65, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    for score in (mixed, lost):
        assert score.verdict is Verdict.DRIFT
        assert "image" in score.explanation
    assert mixed.explanation.endswith("the mix of predicted classes, which moved too, would explain it.")
    assert "mix" not in lost.explanation


@pytest.mark.parametrize("session", [1, 8])
def test_false_alarms_at_a_tenth_with_a_sparse_sample(session: int) -> None:
    """200 drift-free windows of which one bin in five was measured: 20 expected; 37 or more is below 1 in 10,000."""
    rng = np.random.default_rng(10 + session)
    before = summary(losses(4000, rng, session=session))
    flagged = 0
    for _ in range(200):
        measured = np.repeat(rng.random(250) < 0.2, 8)
        flagged += (judged(before, summary(losses(2000, rng, session=session), measured=measured)).p_value or 1) <= 0.1
    assert 4 < flagged < 37


def test_through_the_workers_summaries_a_modality_that_no_longer_counts_is_found() -> None:
    rng = np.random.default_rng(12)
    made = baseline(1600, rng)
    rows = answers(1000, rng)
    known, detector = reference(made), catalogue()["contribution"]
    usual = judge(detector, FUSED, known, evidence(made, rows, partitions=3).summaries[FUSED])
    blind = replace(rows, contribution={**rows.contribution, "image": np.zeros(1000)})
    found = judge(detector, FUSED, known, evidence(made, blind, partitions=3).summaries[FUSED])
    assert (usual.verdict, found.verdict) == (Verdict.OK, Verdict.DRIFT)
    assert "hardly goes by the image any more: it contributes 0.0 points" in found.explanation
    assert usual.n_current == 1000


def test_bins_of_rows_that_differ_in_number_count_by_their_rows() -> None:
    """A bin of one row must not weigh as much as one of eight."""
    rng = np.random.default_rng(13)
    counts = np.tile([1, 8], 200).astype(np.int32)
    loss = np.where(counts == 1, 0.9, 0.2)[:, None] * counts[:, None]
    bins = Bins(counts, {"contribution": np.column_stack([loss, loss, counts]).astype(np.float32)})
    score = judged(summary(losses(800, rng)), Summary(FUSED, {}, bins))
    assert score.details["contributions"]["text"]["window"] == pytest.approx((0.9 + 8 * 0.2) / 9, rel=1e-5)

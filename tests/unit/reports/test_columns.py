"""What reports compare: columns have the distribution that the summaries have, whatever is empty or small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from migrations.schema import bins
from monitor.domain.window import Summary
from monitor.reports.columns import POINTS, compare, latency
from monitor.reports.material import Column
from tests.support.report_material import fused, image, period, reference


def columns(current: dict[str, Summary]) -> dict[str, Column]:
    return {each.name: each for each in compare(reference(), current, 1).columns}


def test_classes_confidence_and_agreement_are_those_of_the_requests() -> None:
    found = columns(period())
    mix = found["predicted class"]
    assert [mix.reference.count(name) for name in ("consistent", "contradictory", "misleading")] == [500, 300, 200]
    assert [mix.current.count(name) for name in ("consistent", "contradictory", "misleading")] == [250, 550, 200]
    assert (mix.reference_rows, mix.current_rows) == (2000, 800)
    sure = found["confidence"]
    assert set(sure.reference) == {0.85}
    assert set(sure.current) == {0.45}
    assert found["heads agree"].current.count("yes") == POINTS // 2


def test_quality_and_embeddings_move_by_what_the_inputs_moved() -> None:
    found = columns(period(shift=3.0))
    for name in ("image noise", "image brightness"):
        moved = wasserstein_distance(found[name].reference, found[name].current)
        assert moved == pytest.approx(3.0, abs=0.1)
    far = found["image embedding distance"]
    assert np.array(far.reference, float).mean() == pytest.approx(1, abs=0.01), (
        "one is how far the baseline's own groups lie"
    )
    # four features moved by 3: a length of 6, beside groups of 8 whose own is about sqrt(4 / 8)
    assert np.array(far.current, float).mean() == pytest.approx(6 / np.sqrt(4 / 8), rel=0.15)


def test_groups_of_other_sizes_are_compared_as_groups_of_one_size() -> None:
    of = {"image": Summary("image", {"present": 4000}, image(4000, q=2, seed=9), "e")}
    found = columns(of)["image brightness"]
    spreads = [np.std(side) for side in (np.array(found.reference), np.array(found.current))]
    assert spreads[0] == pytest.approx(1 / np.sqrt(8), rel=0.15)
    assert spreads[1] == pytest.approx(spreads[0], rel=0.15), "groups of two would spread twice as far"


def test_what_cannot_be_compared_is_left_out_with_its_reason() -> None:
    other = replace(period()["image"], fingerprint="another")
    found = compare(reference(), {"image": other}, 1)
    assert found.columns == []
    assert found.left_out == [
        "fused: the period has no rows of it",
        "image: the period was encoded otherwise than the baseline",
    ]
    assert compare(reference(), {"audio": Summary("audio")}, 1).left_out[0] == "audio: the baseline has no rows of it"


@settings(max_examples=40)
@given(rows=st.integers(1, 40), q=st.integers(1, 9), empty=st.booleans())
def test_few_rows_and_empty_columns_make_whole_columns(rows: int, q: int, empty: bool) -> None:
    made = image(rows, q=q)
    if empty:
        nan = np.full_like(made.columns["quality"], np.nan)
        made = bins.Bins(made.count, {**made.columns, "quality": nan})
    current = {"image": Summary("image", {"present": rows}, made, "e"), "fused": period(rows)["fused"]}
    found = compare(reference(), current, 1)
    assert all(len(side) == POINTS for each in found.columns for side in (each.reference, each.current))
    assert ("image brightness" in [each.name for each in found.columns]) is not empty


def test_latency_is_of_all_slots_that_were_read() -> None:
    counts = [0] * 20
    counts[4], counts[7] = 90, 10  # up to 20 ms, up to 50 ms
    found = latency({"fused": Summary("fused", totals={"latency.total": counts})})
    assert 10 < found["p50"] <= 20 < found["p95"] <= 50
    assert latency({"fused": Summary("fused", bins=fused(8, (1.0,), 0.5))}) == {}

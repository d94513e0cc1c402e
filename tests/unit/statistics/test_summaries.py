"""The worker's accumulator: records add up to what one look at all rows gives, and memory stays bounded."""

from __future__ import annotations

from copy import copy
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.baseline import Baseline, BaselineError, fit_baseline
from inference.projection import Rows
from inference.summaries import Accumulator, RecordKey, SummaryRecord
from migrations.schema import bins as schema_bins
from tests.support.streams import CLASSES, QUALITY, accumulator, answers, baseline, batch, saved, window_summaries


@pytest.fixture(scope="module")
def made() -> Baseline:
    return baseline(400, np.random.default_rng(0))


@pytest.fixture(scope="module")
def traffic() -> Rows:
    return batch(answers(300, np.random.default_rng(1)), start=1_000_000, rate=20, first=500, partitions=2)


def cut(rows: Rows, start: int, stop: int) -> Rows:
    """A copy of some of the rows."""
    part = slice(start, stop)

    def taken(value: Any) -> Any:
        if value is None:
            return None
        return {name: x[part].copy() for name, x in value.items()} if isinstance(value, dict) else copy(value[part])

    return Rows(**{each.name: taken(getattr(rows, each.name)) for each in fields(rows)})


def feed(made: Baseline, rows: Rows, cuts: list[int], **limits: int) -> list[SummaryRecord]:
    """Records as the database holds them: the last write of each key wins."""
    worker = accumulator(made, **limits)
    stored: dict[RecordKey, SummaryRecord] = {}
    edges = [0, *sorted(cuts), len(rows)]
    for start, stop in pairwise(edges):
        preview = worker.preview(cut(rows, start, stop))
        worker.commit(preview)
        stored |= {record.key: record for record in preview}
    return list(stored.values())


@settings(max_examples=8)
@given(st.lists(st.integers(0, 300), max_size=8))
def test_any_batching_gives_the_same_window(made: Baseline, traffic: Rows, cuts: list[int]) -> None:
    whole, parts = (window_summaries(feed(made, traffic, each)) for each in ([], cuts))
    for modality, summary in whole.items():
        other = parts[modality]
        assert other.counts == summary.counts
        assert np.array_equal(other.bins.count, summary.bins.count)
        for name in summary.bins.columns:
            # a row's features, of unit variance, differ by which kernel multiplies so many rows on this processor
            each = summary.bins.count[:, None]
            assert np.allclose(other.bins.columns[name] / each, summary.bins.columns[name] / each, rtol=0, atol=2e-3)
        assert other.totals == summary.totals


def test_a_record_fits_in_64_kilobytes(made: Baseline) -> None:
    """At the defaults, with every column there is and more rows than the bins of a minute hold."""
    rows = batch(answers(2_000, np.random.default_rng(2)), start=1_000_020, rate=40)
    for record in accumulator(made, slot_seconds=60).preview(rows):
        assert len(record.bins.count) == 63  # as many as there may be but one
        assert len(record.payload()) <= 64_000


@pytest.mark.parametrize("gone", [("image",), ("text",), ("image", "text")])
def test_a_batch_may_lack_a_modality_altogether(made: Baseline, traffic: Rows, gone: tuple[str, ...]) -> None:
    rows = cut(traffic, 0, 30)
    for name in gone:
        rows.statuses[name][:] = "missing"
        rows.embeddings[name][:] = rows.quality[name][:] = np.nan
    worker = accumulator(made, slot_seconds=60)
    first = worker.preview(rows)
    assert {name: each.bins.rows for name, each in window_summaries(first).items()} == {
        name: 0 if name in gone or name == "fused" else 30 for name in ("image", "text", "fused")
    }
    worker.commit(first)
    again = window_summaries(worker.preview(cut(traffic, 30, 60)))
    assert again["fused"].bins.rows == 30


def test_totals_count_every_trusted_row(made: Baseline, traffic: Rows) -> None:
    rows = cut(traffic, 0, 60)
    rows.quarantined[:10] = True
    rows.predicted[10:15] = -1
    rows.routes[15:20] = "fallback:text"
    fused = window_summaries(accumulator(made, slot_seconds=60).preview(rows))["fused"]
    assert set(map(sum, (fused.totals[f"latency.{stage}"] for stage in rows.latency_ms))) == {50}
    assert rows.compute_us is not None
    assert fused.totals["compute_us"] == [np.rint(rows.compute_us[10:]).sum()]
    assert sum(fused.totals["classes.fallback:text"]) == sum(fused.totals["confidence.fallback:text"]) == 5
    assert fused.totals["classes.fused"] == np.bincount(rows.predicted[20:], minlength=len(CLASSES)).tolist()


def test_a_modality_that_runs_late_pairs_best_with_a_neighbour(made: Baseline) -> None:
    """Column 4 is a request's own pair; captions that are late by one fit the picture of the request before."""
    right = answers(400, np.random.default_rng(3))
    late = replace(right, embeddings={**right.embeddings, "text": np.roll(right.embeddings["text"], 1, axis=0)})
    for rows, best in ((right, 4), (late, 5)):
        worker = accumulator(made, slot_seconds=60)
        traffic = batch(rows, start=1_000_020, partitions=3)
        worker.commit(worker.preview(cut(traffic, 0, 150)))
        shift = window_summaries(worker.preview(cut(traffic, 150, 400)))["fused"].bins.total("shift")
        assert shift[-1] == 400 - 4  # the first four have too few before them
        assert shift[:-1].argmax() == best


def test_lags_and_contributions_are_summed_where_they_are_known(made: Baseline, traffic: Rows) -> None:
    lag = np.full(len(traffic), np.nan)
    lag[:6] = [0.0, 0.05, -0.3, 100.0, -100.0, 0.1]
    lost = np.full(len(traffic), np.nan)
    lost[:3] = [0.25, 0.5, -0.25]
    rows = replace(traffic, lag=lag, contribution={"image": lost, "text": 2 * lost})
    bins = window_summaries(accumulator(made, slot_seconds=60).preview(rows))["fused"].bins
    assert bins.total("lag").tolist() == [1, 0, 0, 0, 1, 3, 0, 0, 0, 0, 1]
    assert bins.total("contribution").tolist() == [0.5, 1.0, 3]


def test_records_are_kept_by_slot_and_partition(made: Baseline, traffic: Rows) -> None:
    records = feed(made, traffic, [])
    keys = {(int(r.key.slot_start.timestamp()), r.key.partition) for r in records}
    assert keys == {(1_000_000 + 5 * slot, partition) for slot in range(3) for partition in range(2)}
    first = min(records, key=lambda record: record.key)
    assert first.key.first_offset == 500
    assert first.slot_seconds == 5
    assert window_summaries(records)["fused"].counts == {"rows": 300, "fused": 300}


def test_a_dropped_preview_leaves_no_trace(made: Baseline, traffic: Rows) -> None:
    worker = accumulator(made)
    first = cut(traffic, 0, 50)
    worker.preview(first)
    once = worker.preview(first)
    assert sum(record.counts["rows"] for record in once if record.key.modality == "fused") == 50


def test_bins_join_in_pairs_when_a_record_is_full(made: Baseline, traffic: Rows) -> None:
    records = feed(made, traffic, [100, 200], max_bins=4)
    assert max(len(record.bins.count) for record in records) <= 4
    assert {record.q for record in records} == {16}
    assert window_summaries(records)["image"].bins.rows == 300


def test_forgotten_records_start_again_under_another_key(made: Baseline, traffic: Rows) -> None:
    worker = accumulator(made)
    worker.commit(worker.preview(cut(traffic, 0, 20)))
    worker.forget("fusion.requests", 0)
    keys = [r.key for r in worker.preview(cut(traffic, 20, 40)) if r.key.modality == "fused"]
    assert {key.partition: key.first_offset for key in keys} == {0: 510, 1: 500}


def test_memory_is_bounded_by_dropping_the_least_recently_touched(made: Baseline, traffic: Rows) -> None:
    worker = Accumulator(made.projector, model_version="1", fingerprints={}, slot_seconds=5, max_records=6)
    for start in range(0, 300, 100):
        worker.commit(worker.preview(cut(traffic, start, start + 100)))
    late = worker.preview(cut(traffic, 98, 100))
    assert {record.key.first_offset for record in late} == {549}


def test_missing_quarantined_and_failed_rows_are_counted_but_not_summed(made: Baseline, traffic: Rows) -> None:
    n = 40
    rows = cut(traffic, 0, n)
    rows.statuses["image"][:10] = "missing"
    rows.routes[:10] = "fallback"
    rows.quarantined[10:15] = True
    rows.predicted[15:18] = -1
    rows.routes[15:18] = "error"
    rows.embeddings["text"][20] = np.nan
    rows.confidence[15:18] = np.nan
    found = window_summaries(accumulator(made).preview(rows))
    assert found["image"].counts == {"missing": 10, "present": 25}
    assert found["image"].bins.rows == 25
    assert found["text"].bins.rows == 34
    assert found["fused"].counts == {"rows": 35, "fallback": 10, "error": 3, "fused": 22, "quarantined": 5}
    assert found["fused"].bins.rows == 21
    assert all(np.isfinite(column).all() for each in found.values() for column in each.bins.columns.values())


def test_confidence_one_falls_into_the_last_bin(made: Baseline, traffic: Rows) -> None:
    rows = cut(traffic, 0, 8)
    rows.confidence[:] = 1.0
    found = window_summaries(accumulator(made).preview(rows))
    assert found["fused"].bins.total("confidence")[-1] == 8


def test_an_empty_batch_has_no_records(made: Baseline, traffic: Rows) -> None:
    assert accumulator(made).preview(cut(traffic, 0, 0)) == []


def test_baselines_survive_their_file(made: Baseline, tmp_path: Path) -> None:
    again = saved(made, tmp_path)
    assert again.fingerprints == made.fingerprints
    assert again.facts == made.facts
    assert again.counts == made.counts
    for name, bins in made.reference.items():
        assert schema_bins.dump(again.reference[name]) == schema_bins.dump(bins)
    rows = batch(answers(20, np.random.default_rng(3)))
    expected, found = (each.projector.project(rows)["fused"].columns for each in (made, again))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    before, after = (each.projector.project(rows)["image"].columns["shape"] for each in (made, again))
    assert np.array_equal(before, after)
    assert set(expected) == {
        "classes",
        "confidence",
        "agreement",
        "lag",
        "contribution",
        "features",
        "pairing",
        "shift",
    }


def test_reference_rows_are_not_those_the_maps_were_fitted_on(made: Baseline) -> None:
    assert made.reference["image"].rows == 200
    assert made.facts["labelled"] == 400


def test_damaged_and_missing_baselines_are_told(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be read"):
        Baseline.load(tmp_path)
    (tmp_path / "baseline.safetensors").write_bytes(b"nonsense")
    with pytest.raises(BaselineError, match="cannot be read"):
        Baseline.load(tmp_path)


def test_too_few_rows_make_no_baseline() -> None:
    with pytest.raises(BaselineError, match="at least 128"):
        fit_baseline(
            answers(100, np.random.default_rng(0)), class_names=CLASSES, quality_names=QUALITY, encoder_fingerprints={}
        )


def test_rows_that_disagree_about_their_number_are_refused(traffic: Rows) -> None:
    with pytest.raises(ValueError, match="offsets"):
        replace(traffic, offsets=traffic.offsets[:-1])

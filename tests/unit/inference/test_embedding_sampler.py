"""Which embeddings are kept whole: the same ones however rows are dealt to batches and workers."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from inference.embedding_sampler import MAX_HOURS, MAX_ROWS, EmbeddingSampler
from inference.outcome import Predicted
from migrations.schema import embedding_samples as stored
from tests.support.predicted import AT, CLASSES, FINGERPRINTS, VERSION, predicted

KEPT = 3


def answered(number: int, label: str = "moon", route: str = "fused", hours: int = 0, **changes: Any) -> Predicted:
    row = predicted(f"r{number}", number)
    request = replace(row.request, produced_at=AT + timedelta(hours=hours))
    return replace(row, request=request, prediction=replace(row.prediction, label=label, route=route, **changes))


def sampler(rows: int = KEPT, classes: int = len(CLASSES)) -> EmbeddingSampler:
    return EmbeddingSampler(VERSION, FINGERPRINTS, classes, rows)


def keep(ours: EmbeddingSampler, rows: list[Predicted]) -> list[dict[str, Any]]:
    sampled = ours.preview(rows)
    ours.commit(sampled)
    return sampled.rows


def thinned(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Of every stratum and modality the ids with the smallest draws, as readers take them."""
    strata: dict[tuple[Any, ...], list[tuple[float, str]]] = defaultdict(list)
    for row in rows:
        stratum = (row["slot_start"], row["prediction"], row["route"], row["modality"])
        strata[stratum].append((row["draw"], row["request_id"]))
    return {(stratum[3], one[1]) for stratum, ones in strata.items() for one in sorted(ones)[:KEPT]}


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(CLASSES[:2]),
            st.sampled_from(["fused", "fallback:text"]),
            st.booleans(),
            st.sets(st.sampled_from(sorted(FINGERPRINTS))),
        ),
        min_size=40,
        max_size=60,
    ),
    workers=st.integers(1, 4),
    data=st.data(),
)
def test_the_sample_does_not_depend_on_batches_workers_or_restarts(
    rows: list[tuple[str, str, bool, set[str]]], workers: int, data: st.DataObject
) -> None:
    """Also where some rows come without some embeddings, as an observed model's may."""
    made = [
        answered(i, label, route, int(late), embeddings={name: np.ones(2, np.float32) for name in names})
        for i, (label, route, late, names) in enumerate(rows)
    ]
    ours = [sampler() for _ in range(workers)]
    found: list[dict[str, Any]] = []
    left = made
    while left:
        size, which = data.draw(st.integers(1, len(left))), data.draw(st.integers(0, workers - 1))
        batch, left = left[:size], left[size:]
        if data.draw(st.booleans()):
            ours[which] = sampler()  # started again
        ours[which].preview(batch)  # rolled back: counts for nothing
        found += keep(ours[which], batch)
    everything = [row for one in made for row in keep(sampler(), [one])]
    assert thinned(found) == thinned(everything)


def test_of_a_long_hour_little_more_than_the_sample_is_written() -> None:
    ours, n = sampler(), 3000
    written = sum(len(keep(ours, [answered(i)])) for i in range(n)) / len(FINGERPRINTS)
    expected = KEPT * (1 + np.log(n / KEPT))
    assert abs(written - expected) < 4 * np.sqrt(expected)


def test_draws_are_uniform_whatever_the_ids_are() -> None:
    for ids in ([f"{i}" for i in range(2000)], [f"camera-7/2026-03-01/{i:09}" for i in range(2000)]):
        assert stats.kstest([stored.draw(each) for each in ids], "uniform").pvalue > 0.001


def test_a_row_holds_what_the_model_saw_within_half_precision() -> None:
    row = answered(1)
    for kept in keep(sampler(), [row]):
        vector = row.prediction.embeddings[kept["modality"]]
        np.testing.assert_allclose(stored.load(kept["embedding"]), vector, rtol=2**-10)
        assert kept["encoder_fingerprint"] == FINGERPRINTS[kept["modality"]]
        assert kept["slot_start"] == AT.replace(minute=0, second=0, microsecond=0)
    assert stored.load(stored.dump(np.array([1e9, -1e9]))).tolist() == [stored.LARGEST, -stored.LARGEST]


@pytest.mark.parametrize(
    "left_out",
    [
        replace(answered(1), quarantine="clock"),
        replace(answered(1), prediction=replace(answered(1).prediction, label=None)),
        answered(1, embeddings={}),
        answered(1, embeddings={"image": np.array([np.nan], np.float32)}),
        answered(1, embeddings={"audio": np.zeros(2, np.float32)}),
    ],
)
def test_what_is_not_sound_or_not_known_is_left_out(left_out: Predicted) -> None:
    assert keep(sampler(), [left_out]) == []


@pytest.mark.parametrize(("rows", "classes", "kept"), [(8, 6, 8), (8, 100, 5), (8, 10 * MAX_ROWS, 1), (0, 6, 0)])
def test_with_many_classes_fewer_of_each_are_kept(rows: int, classes: int, kept: int) -> None:
    ours = sampler(rows, classes)
    for i in range(200):
        keep(ours, [answered(i)])
    smallest = sorted(range(200), key=lambda i: stored.draw(f"r{i}"))
    again = keep(sampler(rows, classes), [answered(i) for i in smallest])
    assert Counter(row["modality"] for row in again) == (dict.fromkeys(FINGERPRINTS, kept) if kept else {})
    assert {row["kept"] for row in again} == ({kept} if kept else set())


def test_only_so_many_hours_are_remembered_the_newest_ones() -> None:
    ours = sampler(rows=1)
    first = min(range(20), key=lambda i: stored.draw(f"r{i}"))
    for hour in range(MAX_HOURS + 1):
        assert keep(ours, [answered(first, hours=hour)])
    other = next(i for i in range(20) if i != first)
    assert keep(ours, [answered(other, hours=MAX_HOURS)]) == []
    assert keep(ours, [answered(other, hours=0)]), "that hour was forgotten: more is kept, never less"

"""Baselines of traffic: bounded, by hour of day; and thresholds learnt from them."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from migrations.schema import bins
from monitor.detectors._comparison import compare
from monitor.detectors._thresholds import HIGHEST, LEAST_WINDOWS, LOWEST, learn
from monitor.detectors.base import catalogue, evaluate
from monitor.domain.baseline import (
    LEAST_BINS_OF_HOUR,
    MOST_BINS,
    MOST_BINS_OF_HOUR,
    Gathered,
    Health,
    Period,
    facts,
    in_season,
    objections,
)
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import Evidence, IncomparableError, Labelled, Reference, Summary, Window

START = datetime(2026, 3, 2, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(minutes=5))
DIRECTIONS = 16


def summary(rows: NDArray[np.float64], fingerprint: str = "e1") -> Summary:
    return Summary("image", {"present": len(rows)}, bins.from_rows({"features": rows}, 8), fingerprint)


def normal(n: int, seed: int, shift: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, DIRECTIONS)) + shift


def judged(reference: Reference, current: Summary, **options: float) -> Finding:
    (found,) = evaluate(
        reference,
        Evidence({"image": current}),
        window=WINDOW,
        model_version="v1",
        detectors=("embedding_mmd",),
        options={"embedding_mmd": options},
    )
    return found


def reference(rows: NDArray[np.float64], **more: object) -> Reference:
    return Reference(1, "v1", {"image": summary(rows)}, **more)  # type: ignore[arg-type]


@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=30), most=st.integers(2, 40))
def test_what_is_gathered_stays_bounded_and_loses_no_row(sizes: list[int], most: int) -> None:
    gathered = Gathered("image", most)
    parts = [normal(n, seed) for seed, n in enumerate(sizes)]
    for part in parts:
        gathered.add(summary(part))
    found = gathered.summary()
    assert len(found.bins.count) <= most
    assert found.bins.rows == found.counts.get("present", 0) == sum(sizes)
    if sum(sizes):
        np.testing.assert_allclose(found.bins.total("features"), np.vstack(parts).sum(axis=0), atol=1e-3)


def test_bins_gathered_of_equal_slots_are_of_equal_size() -> None:
    gathered = Gathered("image", 100)
    for seed in range(64):
        gathered.add(summary(normal(64, seed)))
    found = gathered.summary().bins
    assert set(found.count.tolist()) == {64 * 64 // 64}
    assert len(found.count) == 64


def test_another_encoder_within_a_period_is_refused_by_name() -> None:
    gathered = Gathered("image", 100)
    gathered.add(summary(normal(64, 0)))
    gathered.add(summary(normal(0, 0), ""))
    with pytest.raises(IncomparableError, match="from e1 to e2"):
        gathered.add(summary(normal(64, 1), "e2"))


def week(slot: timedelta = timedelta(hours=1)) -> Period:
    """Seven days of 80 rows an hour; at night, 20 to 6 o'clock, other pictures come."""
    window = Window(START, START + timedelta(days=7))
    period = Period(window, ("image",), seasons=True)
    at = window.start
    while at < window.end:
        night = at.hour >= 20 or at.hour < 6
        period.add(at, {"image": summary(normal(80, int(at.timestamp()), 0.8 if night else 0.0))})
        at += slot
    return period


def at_hour(period: Period, hour: int) -> Reference:
    return in_season(Reference(1, "v1", period.whole()), hour, period.hours()[hour])


def test_a_season_is_silent_at_night_and_finds_what_is_new_then() -> None:
    period = week()
    day = Reference(1, "v1", period.whole())
    night = summary(normal(400, 1, 0.8))
    assert judged(day, night).verdict is Verdict.DRIFT  # it would alarm every night
    for hour in (22, 0, 3):
        found = judged(at_hour(period, hour), night)
        assert found.verdict is Verdict.OK
        assert found.details["season"] == f"hour {hour}"
    assert judged(at_hour(period, 0), summary(normal(400, 1, 1.6))).verdict is Verdict.DRIFT
    # pictures of the night are drift at noon, and so they are of the day
    assert judged(at_hour(period, 12), night).verdict is Verdict.DRIFT
    assert judged(at_hour(period, 12), summary(normal(400, 1))).verdict is Verdict.OK


def test_hours_hold_those_beside_them_and_stay_bounded() -> None:
    period = week()
    hours = period.hours()
    assert sorted(hours) == list(range(24))
    for each in hours.values():
        assert each["image"].bins.rows == 7 * 3 * 80
        assert len(each["image"].bins.count) <= MOST_BINS_OF_HOUR
    assert len(period.whole()["image"].bins.count) <= MOST_BINS
    first, second = period.halves()
    assert first["image"].bins.rows == second["image"].bins.rows == 7 * 12 * 80


def test_an_hour_with_little_leaves_the_day_in_place() -> None:
    period = week()
    day = Reference(1, "v1", period.whole())
    few = {"image": summary(normal(8 * (LEAST_BINS_OF_HOUR - 1), 0))}
    found = in_season(day, 3, few)
    assert found.summaries["image"] is day.summaries["image"]
    assert judged(found, summary(normal(400, 1))).details["season"] == "day"
    assert "season" not in judged(day, summary(normal(400, 1))).details


def test_objections_name_everything_that_speaks_against_a_period() -> None:
    sound = Health(rows=500, slots=95, expected=100, drifts=(), alerts=())
    assert objections(sound) == []
    assert len(objections(Health(499, 94, 100, ("quality image",), ("AccuracyDrop",)))) == 4
    assert "6 of 100 slots" in objections(replace(sound, slots=94))[0]


def labelled(n: int, sampling: float = np.nan) -> Labelled:
    rng = np.random.default_rng(4)
    label, predicted = rng.choice(["a", "b"], (2, n))
    return Labelled(
        rng.random(n),
        label == predicted,
        np.array(["fused"] * n),
        predicted=predicted,
        label=label,
        sampling=np.full(n, sampling),
    )


def test_labels_make_facts_where_they_suffice_and_are_a_fair_sample() -> None:
    own = {"class_names": ["a", "b"], "quality": {"image": ["noise"]}, "encoders": {"image": "e1"}, "accuracy": 0.99}
    found = facts(own, labelled(300, sampling=0.2))
    assert found["accuracy"] == pytest.approx(labelled(300).correct.mean())
    assert sum(found["class_prior"]) == pytest.approx(1)
    assert (sum(found["confidence"]), found["labelled"]) == (300, 300)
    few = facts(own, labelled(199))
    assert "accuracy" not in few
    assert "199 labels" in few["labels_left_out"]
    mixed = labelled(300, sampling=0.2)
    assert mixed.sampling is not None
    mixed.sampling[:50] = 1.0
    assert "unequal" in facts(own, mixed)["labels_left_out"]
    assert few["quality"] == own["quality"]


def test_thresholds_are_learnt_in_time_within_bounds_and_said_where_they_came_from() -> None:
    steady = reference(normal(400 * 20, 5))
    began = time.process_time()
    learnt = learn([steady], 400)
    assert time.process_time() - began < 10  # two seconds where nothing else runs
    default = catalogue()["embedding_mmd"].options().effect
    held = learnt.effects["embedding_mmd"]["image"]
    assert LOWEST * default <= held <= HIGHEST * default
    taught = replace(steady, thresholds=learnt.effects)
    current = summary(normal(400, 9))
    found = judged(taught, current)
    assert (found.threshold, found.details["threshold_from"]) == (held, "baseline")
    found = judged(taught, current, effect=0.5)
    assert (found.threshold, found.details["threshold_from"]) == (0.5, "settings")
    found = judged(steady, current)
    assert (found.threshold, found.details["threshold_from"]) == (default, "default")


def test_a_restless_baseline_raises_the_threshold_above_its_own_habits_and_no_further_than_allowed() -> None:
    def moving(size: float) -> Reference:
        level = np.random.default_rng(8).normal(size=(24, DIRECTIONS)) * size
        return reference(np.vstack([normal(400, i) + level[i] for i in range(24)]))

    default = catalogue()["embedding_mmd"].options().effect
    calm = learn([moving(0.0)], 400).effects["embedding_mmd"]["image"]
    restless = learn([moving(0.1)], 400).effects["embedding_mmd"]["image"]
    wild = learn([moving(2.0)], 400).effects["embedding_mmd"]["image"]
    assert calm <= default < restless < wild == HIGHEST * default


def test_a_season_teaches_by_hour_so_that_nights_do_not_raise_thresholds() -> None:
    period = week()
    day = Reference(1, "v1", period.whole())
    hours = [in_season(day, hour, each) for hour, each in period.hours().items() if 8 <= hour < 18 or hour < 4]
    by_day = learn([day], 400).effects["embedding_mmd"]["image"]
    by_hour = learn(hours, 400).effects["embedding_mmd"]["image"]
    assert by_hour < by_day


def test_a_small_baseline_teaches_nothing_and_says_so() -> None:
    learnt = learn([reference(normal(1600, 5))], 400)
    assert learnt.effects == {}
    assert learnt.reason is not None
    assert f"{LEAST_WINDOWS} are needed" in learnt.reason


def test_comparing_names_both_encoders_where_they_differ() -> None:
    one = reference(normal(800, 1))
    with pytest.raises(IncomparableError, match="encoder e1, those of the other by e2"):
        compare(one, {"image": summary(normal(800, 2), "e2")}, WINDOW)
    found = compare(one, {"image": summary(normal(800, 2, 0.6))}, WINDOW)
    assert {each.detector: each.verdict for each in found}["embedding_mmd"] is Verdict.DRIFT

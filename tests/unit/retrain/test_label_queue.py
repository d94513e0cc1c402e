"""The label queue draws where labels teach most, and accuracy estimated from what it drew has no bias."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from monitor.detectors._sampling import hajek, sample
from monitor.domain.finding import Finding, Verdict
from monitor.domain.label_queue import LEAST, STRATA, Candidate, Draw, Region, allocate, draw, region, seed_of, stratify
from monitor.domain.window import Labelled, Window

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HERE = Region(T0 + timedelta(minutes=30), frozenset({"camera 3"}))


def population(n: int, seed: int) -> list[Candidate]:
    """n answers of an hour, of which every stratum has some."""
    rng = np.random.default_rng(seed)
    text, agree, third = rng.random(n) < 0.03, rng.random(n) < 0.9, rng.random(n) < 0.5
    classes, confidence = rng.choice(3, n, p=[0.6, 0.35, 0.05]), rng.beta(5, 2, n)
    return [
        Candidate(
            f"r{number}",
            T0 + timedelta(seconds=3600 * number / n),
            "fallback:text" if text[number] else "fused",
            "abc"[classes[number]],
            float(confidence[number]),
            bool(agree[number]),
            "camera 3" if third[number] else "camera 1",
        )
        for number in range(n)
    ]


def truth(candidates: list[Candidate]) -> dict[str, bool]:
    """Odd answers are wrong far more often than others, as they are in life."""
    rng = np.random.default_rng(1)
    return {
        one.request_id: bool(rng.random() < one.confidence**2 * (0.3 if one.agreement is False else 1.5))
        for one in candidates
    }


def estimate(drawn: Draw, right: dict[str, bool]) -> float:
    """What the accuracy detector makes of all labels of a draw."""
    correct = np.array([right[entry.request_id] for entry in drawn.entries])
    labelled = Labelled(
        np.full(len(correct), 0.5), correct, sampling=np.array([entry.probability for entry in drawn.entries])
    )
    chosen = sample(labelled)
    assert len(chosen.rows) == len(correct)
    return hajek(correct[chosen.rows].astype(np.float64), chosen.weight).value


@given(st.integers(0, 300), st.integers(1, 400), st.integers(0, 2**32))
@settings(max_examples=25)
def test_every_answer_has_a_known_chance_and_none_comes_twice(n: int, wanted: int, seed: int) -> None:
    frame = population(n, 5)
    drawn = draw(frame, wanted, seed=seed, where=HERE, short_classes=("c",))
    names = dict(zip((one.request_id for one in frame), stratify(frame, HERE, ("c",)) if frame else [], strict=True))
    assert len({entry.request_id for entry in drawn.entries}) == len(drawn.entries)
    assert min(n, wanted) <= len(drawn.entries) <= max(wanted, LEAST * len(STRATA))
    assert Counter(names.values()) == {name: rows for name, (rows, _) in drawn.strata.items()}, "strata cut the frame"
    for entry in drawn.entries:
        rows, taken = drawn.strata[entry.stratum]
        assert (entry.stratum, entry.probability) == (names[entry.request_id], taken / rows)
    assert sum(1 / entry.probability for entry in drawn.entries) == pytest.approx(n), "they stand for the whole frame"
    assert drawn == draw(frame[::-1], wanted, seed=seed, where=HERE, short_classes=("c",))


@given(st.dictionaries(st.sampled_from(sorted(STRATA)), st.integers(0, 60)), st.integers(1, 200))
def test_an_allocation_takes_what_was_wanted_from_every_stratum_there_is(rows: dict[str, int], wanted: int) -> None:
    taken = allocate(rows, wanted)
    assert set(taken) == {name for name, n in rows.items() if n}
    assert all(min(LEAST, rows[name]) <= n <= rows[name] for name, n in taken.items())
    least = sum(min(LEAST, n) for n in rows.values())
    assert sum(taken.values()) == max(least, min(wanted, sum(rows.values())))


@given(st.integers(60, 160), st.integers(15, 50), st.integers(0, 1000))
@settings(max_examples=4)
def test_accuracy_estimated_from_the_queue_has_no_bias(n: int, wanted: int, seed: int) -> None:
    frame = population(n, seed)
    right = truth(frame)
    mean = np.mean(list(right.values()))
    draws = [draw(frame, wanted, seed=seed * 10_000 + k, where=HERE) for k in range(100)]
    found = np.array([estimate(drawn, right) for drawn in draws])
    error = max(_standard_error(frame, draws[0], right), 1e-12)
    assert abs(found.mean() - mean) <= 5 * error / np.sqrt(len(found)) + 1e-12


def _standard_error(frame: list[Candidate], drawn: Draw, right: dict[str, bool]) -> float:
    """Of a stratified mean (Cochran 1977, 5.3): sum of (N_h/N)² (1 - n_h/N_h) S_h² / n_h."""
    names = stratify(frame, HERE)
    variance = 0.0
    for name, (rows, taken) in drawn.strata.items():
        of_it = [right[one.request_id] for one, stratum in zip(frame, names, strict=True) if stratum == name]
        spread = float(np.var(of_it, ddof=1)) if rows > 1 else 0.0
        variance += (rows / len(frame)) ** 2 * (1 - taken / rows) * spread / taken
    return float(np.sqrt(variance))


def test_without_the_weights_the_same_labels_would_mislead() -> None:
    frame = population(2000, 3)
    right = truth(frame)
    drawn = draw(frame, 400, seed=1, where=HERE)
    mean, plain = np.mean(list(right.values())), np.mean([right[entry.request_id] for entry in drawn.entries])
    assert mean - plain > 0.05
    assert abs(estimate(drawn, right) - mean) < 0.04


def test_within_a_stratum_every_answer_is_as_likely_and_the_first_of_the_queue_are_a_fair_part() -> None:
    frame = population(80, 2)
    seen, first = Counter[str](), Counter[str]()
    for seed in range(400):
        entries = draw(frame, 30, seed=seed, where=HERE).entries
        seen.update(entry.request_id for entry in entries)
        first.update(entry.stratum for entry in entries[:10])
    strata = draw(frame, 30, seed=0, where=HERE).strata
    names = stratify(frame, HERE)
    for name, (rows, taken) in strata.items():
        counts = [seen[one.request_id] for one, stratum in zip(frame, names, strict=True) if stratum == name]
        if taken < rows:
            assert chisquare(counts).pvalue > 1e-6, name
        assert sum(counts) == 400 * taken
    expected = [400 * 10 * strata[name][1] / 30 for name in sorted(strata)]
    assert chisquare([first[name] for name in sorted(strata)], expected).pvalue > 1e-6


def test_odd_answers_are_asked_for_more_often_than_their_share() -> None:
    drawn = draw(population(2000, 4), 200, seed=9, where=HERE, short_classes=("c",))
    overall = 200 / 2000
    for name in ("rare_pattern", "disagreement", "short_class"):
        rows, taken = drawn.strata[name]
        assert taken / rows > 1.2 * overall, name
    rows, taken = drawn.strata["rest"]
    assert 0 < taken / rows < overall


def test_where_every_class_is_short_of_labels_that_tells_no_answers_apart() -> None:
    frame = population(300, 6)
    assert stratify(frame, HERE, "abc") == stratify(frame, HERE)
    assert "short_class" in stratify(frame, HERE, "c")


def test_the_region_of_drift_is_told_by_the_findings() -> None:
    window = Window(T0, T0 + timedelta(hours=1))
    told = {"since": (T0 - timedelta(hours=2)).isoformat()}
    sources = [{"source": "camera 3", "rows": 70, "share": 0.9}, {"source": "camera 1", "rows": 30, "share": 0.1}]

    def drifting(details: dict[str, object]) -> Finding:
        return Finding("quality", "image", window, Verdict.DRIFT, 1, 0, 1, None, 1, 1, 1, 1, "v1", "", details)

    assert region([]) == Region(None)
    assert region([drifting({})]) == Region(T0)
    found = region([drifting({}), drifting({**told, "sources": sources})])
    assert found == Region(T0 - timedelta(hours=2), frozenset({"camera 3"}))
    one = population(1, 1)[0]
    assert not Region(None).holds(one)
    assert Region(T0).holds(one)


def test_a_frame_has_its_own_seed() -> None:
    seeds = {seed_of("m", "v1", T0), seed_of("m", "v2", T0), seed_of("m", "v1", T0 + timedelta(seconds=1))}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)

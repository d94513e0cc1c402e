"""The sequential monitor's laws: fair bets, one path whatever the road, bounded memory, alarms that name and end."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from monitor.domain.season import fit
from monitor.domain.sequential import Judged, Plan, Series, judge, payoffs, push
from monitor.domain.sequential_state import StateError, dump, load
from monitor.domain.signals import PAGE, TICKET
from monitor.tasks.gradual import Watch
from tests.bench import bench_sequential

PLAN = Plan(calibration=48, reference=100)
Panel = dict[str, Series]


def step(panel: Panel, number: int, values: dict[str, float], threshold: float = 2880.0) -> Judged[str]:
    pushed = {
        name: push(series, number, hour=number % 24, value=values[name], in_control=True, plan=PLAN)
        for name, series in panel.items()
    }
    return judge(pushed, number, threshold=threshold, floors={}, plan=PLAN)


def play(panel: Panel, first: int, rows: np.ndarray, threshold: float = 2880.0) -> tuple[Panel, list[tuple[int, str]]]:
    raised = []
    for number, row in enumerate(rows, first):
        judged = step(panel, number, dict(zip(panel, map(float, row), strict=True)), threshold)
        panel = dict(judged.panel)
        if judged.raised is not None:
            raised.append((number, judged.raised))
    return panel, raised


def fresh(*names: str, both_ways: bool = False) -> Panel:
    return {name: Series(first=0, both_ways=both_ways) for name in names}


@given(earlier=st.integers(3, 720), shift=st.sampled_from([-3.0, -1.0, 1.0, 2.1, 3.0]))
def test_bets_are_fair_over_all_ranks(earlier: int, shift: float) -> None:
    ranks = np.arange(earlier + 1, dtype=float)
    assert payoffs(ranks, np.zeros_like(ranks), earlier, np.array([shift])).mean() == pytest.approx(1, rel=1e-9)


def test_a_payoff_is_the_mean_likelihood_ratio_over_the_p_values_of_the_rank() -> None:
    for above, tied, earlier, shift in ((0, 0, 168, 2.2), (5, 0, 168, 0.9), (10, 6, 100, 2.2), (160, 0, 168, -2.2)):
        low, high = above / (earlier + 1), (above + tied + 1) / (earlier + 1)
        mean = quad(lambda p, d=shift: np.exp(d * norm.isf(p) - d**2 / 2), low, high)[0] / (high - low)
        paid = payoffs(np.array(float(above)), np.array(float(tied)), earlier, np.array([shift]))
        assert paid[0] == pytest.approx(mean, rel=1e-5)


def test_a_constant_series_neither_gains_nor_loses() -> None:
    panel, raised = play(fresh("a"), 0, np.full((200, 1), 0.25), threshold=1e6)
    assert not raised
    assert [path.r for path in panel["a"].paths] == pytest.approx([152.0, 152.0])


@pytest.mark.parametrize("world", list(bench_sequential.WORLDS))
def test_in_control_bets_pay_one_on_average_and_alarms_keep_the_promise(world: str) -> None:
    values = bench_sequential.WORLDS[world](168 + 360, 40, np.random.default_rng(5))
    e = bench_sequential.paid(values.reshape(len(values), -1))
    assert e.mean() <= 1.06  # 400 series of 360 windows: the mean's standard error is below 0.02
    found = bench_sequential.alarms(e, 360).sum(axis=0)
    assert found.mean() + 3 * found.std() / len(found) ** 0.5 < 2  # promised: at most 1


def test_the_bench_and_the_monitor_do_the_same_arithmetic() -> None:
    plan = bench_sequential.PLAN
    values = bench_sequential.serial(plan.calibration + 60, 1, np.random.default_rng(3))[:, 0, 0]
    e = bench_sequential.paid(values[:, None])[:, 0]
    r = np.zeros(len(plan.shifts))
    series = Series(first=0)
    for number, value in enumerate(values):
        series = push(series, number, hour=number % 24, value=float(value), in_control=True, plan=plan)
        if number >= plan.calibration:
            r = (1 + r) * e[number - plan.calibration]
            assert [path.r for path in series.paths] == pytest.approx(r.tolist(), rel=1e-6)


def test_a_shift_is_found_named_dated_and_its_end_is_seen() -> None:
    rng = np.random.default_rng(11)
    quiet, moved = rng.normal(size=(120, 3)), rng.normal(size=(30, 3))
    moved[:, 1] += 2
    panel, early = play(fresh("image", "text", "pairing"), 0, quiet)
    assert not early
    before = len(panel["text"].reference)
    panel, raised = play(panel, 120, moved)
    assert [name for _, name in raised] == ["text"], "one alarm while it lasts"
    alarm = panel["text"].alarm
    assert alarm is not None
    assert 112 <= alarm.since <= 126
    assert alarm.at <= 120 + 20
    assert 1 < alarm.size < 3
    assert len(panel["text"].reference) <= before + 6, "the change did not become the normal"
    panel, again = play(panel, 150, rng.normal(size=(40, 3)))
    assert not again
    assert panel["text"].alarm is None


def test_a_fall_is_found_only_where_both_ways_are_watched() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(130, 1))
    rows[100:] -= 3
    assert not play(fresh("a"), 0, rows)[1]
    panel, raised = play(fresh("a", both_ways=True), 0, rows)
    assert raised
    assert panel["a"].alarm is not None
    assert panel["a"].alarm.size < 0


def test_a_change_below_its_floor_is_no_alarm() -> None:
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(150, 1)) * 1e-3
    rows[100:] += 5e-3
    panel, _ = play(fresh("a"), 0, rows, threshold=float("inf"))
    assert judge(panel, 150, threshold=100, floors={"a": 0.1}, plan=PLAN).raised is None
    assert judge(panel, 150, threshold=100, floors={"a": 0.001}, plan=PLAN).raised == "a"


def test_windows_out_of_control_teach_nothing() -> None:
    panel, _ = play(fresh("a"), 0, np.random.default_rng(1).normal(size=(60, 1)))
    after = push(panel["a"], 60, hour=0, value=50.0, in_control=False, plan=PLAN)
    assert after.reference == panel["a"].reference
    calibrating = Series(first=0)
    assert push(calibrating, 0, hour=0, value=9.0, in_control=False, plan=PLAN) == calibrating


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), stop=st.integers(1, 179), late=st.integers(0, 179))
def test_a_restart_or_late_data_change_nothing_of_what_comes_out(seed: int, stop: int, late: int) -> None:
    """Stored and loaded at any window, or replayed from before a window that came late: the same panel."""
    rows = np.random.default_rng(seed).normal(size=(180, 2))
    rows[150:, 0] += 2.5
    whole, raised = play(fresh("a", "b"), 0, rows)
    half, first = play(fresh("a", "b"), 0, rows[:stop])
    stored = {name: load(json.loads(json.dumps(dump(series)))) for name, series in half.items()}
    assert stored == half
    resumed, rest = play(stored, stop, rows[stop:])
    assert (resumed, first + rest) == (whole, raised)
    settled, _ = play(fresh("a", "b"), 0, rows[:late])
    wrong = rows[late:].copy()
    wrong[0] = 40.0
    play(settled, late, wrong)
    assert play(settled, late, rows[late:])[0] == whole


def test_memory_is_bounded() -> None:
    panel, _ = play(fresh("a"), 0, np.random.default_rng(0).normal(size=(400, 1)))
    series = panel["a"]
    assert (len(series.reference), len(series.history)) == (PLAN.reference, 0)
    assert len(json.dumps(dump(replace(series, reference=series.reference)))) < 2500


def test_a_state_of_another_layout_or_a_broken_one_is_refused() -> None:
    state = dump(Series(first=0))
    with pytest.raises(StateError, match="layout 99"):
        load({**state, "version": 99})
    with pytest.raises(StateError, match="broken"):
        load({**state, "paths": [{"nonsense": 1}]})


def test_windows_must_be_in_order_and_finite() -> None:
    series = push(Series(first=0), 5, hour=0, value=1.0, in_control=True, plan=PLAN)
    for number, value in ((5, 1.0), (4, 1.0), (6, float("nan"))):
        with pytest.raises(ValueError, match="cannot follow"):
            push(series, number, hour=0, value=value, in_control=True, plan=PLAN)


def test_a_daily_rhythm_and_a_lag_are_learnt_and_noise_is_not() -> None:
    rng = np.random.default_rng(6)
    n = 24 * 14
    hours = np.arange(n) % 24
    noise = rng.normal(size=n)
    remembered = noise.copy()
    for t in range(1, n):
        remembered[t] += 0.6 * remembered[t - 1]
    swing = 3 * np.sin(hours * 2 * np.pi / 24)
    fitted = fit(np.stack([noise, remembered, noise + swing], axis=1), hours, np.arange(n) > 0)
    assert fitted.lag[0] < 0.2
    assert 0.5 < fitted.lag[1] < 0.75
    assert np.abs(fitted.profile[:, 0]).max() < 0.5
    assert np.corrcoef(fitted.profile[:, 2], 3 * np.sin(np.arange(24) * 2 * np.pi / 24))[0, 1] > 0.97
    assert fitted.residuals[:, 2].std() == pytest.approx(1, abs=0.15)


def test_each_detector_is_a_series_of_one_watch_unless_fixed_thresholds_alone_serve() -> None:
    tickets, pages = (Watch("", "", severity, timedelta(hours=1), 1, PLAN) for severity in (TICKET, PAGE))
    assert tickets.follows("embedding_mmd")
    assert pages.follows("availability")
    assert not pages.follows("embedding_mmd")
    for name in ("confidence_drift", "quality_shape", "misalignment", "cost"):
        assert not tickets.follows(name)
        assert not pages.follows(name)

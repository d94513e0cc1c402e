"""What the pages say of a finding and of what is wrong, from hand-made facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitor.alerts.rules import RULES
from monitor.detectors.base import catalogue
from monitor.storage.views.models.base import Period
from monitor.storage.views.models.findings import FindingDetail
from monitor.storage.views.models.traffic import TrafficPoint, TrafficSeries
from monitor.web import explained, methods, moved, plots, words
from monitor.web.session import inside

NOW = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)


def finding(**changes: Any) -> FindingDetail:
    told: dict[str, Any] = {
        "finding_id": 7,
        "model_version": "v1",
        "detector": "embedding_mmd",
        "modality": "image",
        "window_start": NOW - timedelta(minutes=1),
        "window_end": NOW,
        "verdict": "drift",
        "value": 0.2,
        "p_value": 0.001,
        "effect": 0.2,
        "interval_low": 0.1,
        "interval_high": 0.3,
        "threshold": 0.06,
        "n_reference": 2000,
        "n_current": 240,
        "baseline_id": 1,
        "explanation": "moved",
        "revision": 0,
        "details": {},
    }
    return FindingDetail.model_validate({**told, **changes})


def test_every_detector_and_rule_has_words_for_its_test_and_its_value() -> None:
    judged = {*catalogue(), *(rule.detector for rule in RULES)}
    assert {name for name in judged if not methods.method(name).asks} == set()
    assert {name for name in {rule.detector for rule in RULES} if not words.detector(name).unit} == set()
    assert set(methods.CONCLUSIONS) == set(words.VERDICTS)


def test_the_gauge_keeps_the_order_and_the_proportions_of_the_numbers() -> None:
    drawn = explained.gauge(finding(threshold=0.0))
    assert drawn is not None
    assert None not in (drawn.low, drawn.high, drawn.threshold)
    assert 0 < drawn.threshold < drawn.low < drawn.value < drawn.high < explained.GAUGE_WIDTH  # type: ignore[operator]
    assert drawn.value - drawn.low == pytest.approx(drawn.high - drawn.value)  # type: ignore[operator]
    assert explained.gauge(finding(value=None)) is None
    assert explained.gauge(finding(interval_low=None, interval_high=None, threshold=None)) is None
    same = explained.gauge(finding(value=0.0, interval_low=None, interval_high=None, threshold=0.0))
    assert same is not None
    assert same.value == same.threshold


@pytest.mark.parametrize(
    ("p_value", "said"),
    [
        (None, "no p-value"),
        (0.3, "in 30 of 100 windows: no evidence"),
        (0.05, "in about 1 of 20 windows"),
        (1e-12, "less than once in a billion windows"),
        (0.0, "less than once in a billion windows"),
    ],
)
def test_a_p_value_is_told_as_how_often_chance_does_it(p_value: float | None, said: str) -> None:
    assert said in explained.chance_said(p_value)


def test_what_was_compared_is_told_and_what_was_not_too() -> None:
    assert "against 2\u202f000 of the baseline" in explained.rows_said(finding())
    assert explained.rows_said(finding(n_reference=0, n_current=1)).startswith("1 row of this window; it is held")
    assert explained.value_said(finding(value=None)).startswith("There is no value")
    assert explained.threshold_said({}) == ""
    assert explained.threshold_said({"threshold_from": "settings"}) == "The threshold is set in the settings."


def test_what_moved_is_told_per_kind_with_its_units() -> None:
    classes = finding(detector="class_drift", details={"baseline": [0.5, 0.5], "window": [0.9, 0.1]})
    (table,) = moved.moved(classes, ["a", "b"])
    assert [(row.name, row.before, row.now, row.change) for row in table.rows] == [
        ("a", "50.0%", "90.0%", "+40.0 points"),
        ("b", "50.0%", "10.0%", "-40.0 points"),
    ]
    assert moved.moved(classes, ["a"]) == [], "names that do not fit name nothing"
    shape = {"statistic": "sharp_edges", "effect": 0.4, "filled": [0, 7], "emptied": [3], "p_value": 0.001}
    reshaped = {**shape, "baseline": [0.125] * 8, "window": [0.4, 0, 0, 0, 0.1, 0.1, 0.1, 0.3]}
    (table,) = moved.moved(finding(detector="quality_shape", details={"reshaped": [reshaped]}))
    assert [(row.name, row.before, row.now) for row in table.rows] == [
        ("Sharp edges: 1st and 8th of 8 ranges", "25.0%", "70.0%")
    ]
    given = {"image": {"baseline": 0.3, "window": -0.02, "interval": [0, 0], "p_value": 0.0}}
    (table,) = moved.moved(finding(detector="contribution", details={"contributions": given}))
    assert (table.rows[0].before, table.rows[0].now, table.rows[0].change) == ("30.0%", "-2.0%", "-32.0 points")


def test_a_timeline_fills_each_bar_and_counts_each_kind_once() -> None:
    period = Period(start=NOW - timedelta(minutes=2), end=NOW)
    counts: list[dict[str, int]] = [{"present": 3, "missing": 1}, {"missing": 4}, {}]
    series = TrafficSeries(
        bucket_seconds=60,
        points=[
            TrafficPoint(at=period.start + timedelta(minutes=i), routes={}, modalities={"image": by})
            for i, by in enumerate(counts)
        ],
    )
    line = plots.status_timeline(series, "image", period)
    assert line.totals == {"present": 3, "missing": 5}
    assert [bar.x for bar in line.bars] == [0, plots.TIMELINE_WIDTH / 2], "no bar where nothing came"
    for bar in line.bars:
        assert sum(block.height for block in bar.blocks) == pytest.approx(plots.TIMELINE_HEIGHT)
        assert min(block.y for block in bar.blocks) == pytest.approx(0)
    assert [block.kind for block in line.bars[0].blocks] == ["present", "missing"]


def test_expected_bins_read_the_baseline_where_the_window_s_answers_are() -> None:
    facts = {"confidence": [10, 0, 30, 60], "confidence_correct": [2, 0, 15, 57]}
    window = finding(details={"bounds": [0.0, 0.5, 0.75, 1.0], "baseline": [0.1, 0.3, 0.6], "window": [0.5, 0.0, 0.5]})
    low, high = plots.expected_bins(facts, window)
    assert (low.accuracy, low.count, low.confidence) == (0.2, 120, 0.125)
    assert (high.accuracy, high.count, high.confidence) == (0.95, 120, 0.875)
    assert low.accuracy_low < 0.2 < low.accuracy_high
    assert plots.expected_bins({}, window) == plots.expected_bins(facts, None) == ()
    columns = plots.confidence_bars(window)
    assert sum(each.width for each in columns) == plots.SIDE
    area = sum(each.width * each.now for each in columns) / sum(each.width * each.before for each in columns)
    assert area == pytest.approx(1), "both are densities"


@pytest.mark.parametrize(
    ("path", "led"),
    [("/alerts/3", "/alerts/3"), ("", "/"), ("//a", "/"), ("http://a/", "/"), ("/\\a", "/"), ("/a\nb", "/")],
)
def test_the_way_back_stays_on_this_site(path: str, led: str) -> None:
    assert inside(path) == led

"""The baseline in use, in one line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from monitor.storage.views.models.base import Period
from monitor.storage.views.models.champion import Champion
from monitor.web.compared import compared_with

NOW = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)
WEEK = Period(start=datetime(2026, 2, 21, tzinfo=UTC), end=datetime(2026, 2, 28, tzinfo=UTC))


@pytest.mark.parametrize(
    ("baseline", "told"),
    [
        (
            {"baseline_number": 1, "baseline_origin": "checkpoint", "baseline_thresholds_learnt": False},
            "Baseline 1: it came with the checkpoint; the same at every hour; default thresholds.",
        ),
        (
            {
                "baseline_number": 2,
                "baseline_origin": "period",
                "baseline_pinned": True,
                "baseline_period": WEEK,
                "baseline_hours": 24,
                "baseline_thresholds_learnt": True,
            },
            "Baseline 2 (pinned): made of traffic, 21 Feb 00:00 to 28 Feb 00:00; by hour of day; learnt thresholds.",
        ),
        (
            {"baseline_number": 3, "baseline_origin": "file", "baseline_hours": 17, "baseline_thresholds_learnt": True},
            "Baseline 3: made of a labelled file; by hour of day for 17 of 24 hours; learnt thresholds.",
        ),
        ({"baseline_id": None}, "No baseline: there is nothing to compare with."),
    ],
)
def test_the_line_says_number_origin_period_hours_and_thresholds(baseline: dict[str, Any], told: str) -> None:
    plain: dict[str, Any] = {
        "baseline_id": 1,
        "baseline_origin": None,
        "baseline_facts": {},
        "class_names": ["a"],
        "modalities": ["text"],
    }
    champion = Champion(**{"version": "v1", "family": "f", "since": NOW, **plain, **baseline})
    assert compared_with(champion, NOW) == told

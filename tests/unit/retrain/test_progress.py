"""How far a job has come, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitor.domain.progress import in_words

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        ({}, ""),
        ({"phase": "reading labelled rows"}, "reading labelled rows"),
        ({"phase": "training", "step": 40, "steps": 200, "loss": 0.3124}, "training, step 40 of 200, loss 0.312"),
        (
            {"phase": "training", "step": 120, "steps": 200, "resumed_at": 100},
            "training, step 120 of 200, taken up at step 100",
        ),
        (
            {"phase": "measuring", "step": 200, "steps": 200, "eta": "2026-03-01T12:05:00+00:00"},
            "measuring, step 200 of 200",
        ),
        ({"phase": "training", "step": "?", "loss": None, "eta": "soon"}, "training"),
    ],
)
def test_what_is_told_is_said(progress: dict[str, Any], words: str) -> None:
    assert in_words(progress, NOW) == words


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(seconds=-1), ""),
        (timedelta(seconds=40), "about 40 s left"),
        (timedelta(minutes=3), "about 3 min left"),
        (timedelta(hours=2.5), "about 2.5 h left"),
    ],
)
def test_the_time_left_is_told_roughly(left: timedelta, words: str) -> None:
    assert in_words({"eta": (NOW + left).isoformat()}, NOW) == words
    assert in_words({"eta": (NOW + left).replace(tzinfo=None).isoformat()}, NOW) == "", "a time without a zone is none"

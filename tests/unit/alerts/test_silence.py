"""What may be silenced, for how long, and which alerts a silence holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.silence import LABELS, LONGEST, Draft, Kind, Silence
from monitor.errors import SilenceError

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DRAFT = Draft(Kind.SILENCE, {"modality": "image"}, T0, T0 + HOUR, "ann", "new camera")
OPEN: dict[str, Any] = {"kind": Kind.MAINTENANCE, "matchers": {}}


@pytest.mark.parametrize(
    "fit", [{}, OPEN, {"end": T0 + LONGEST}, {"start": T0 + HOUR, "end": T0 + 2 * HOUR}, {"reason": "x" * 500}]
)
def test_what_is_allowed(fit: dict[str, Any]) -> None:
    replace(DRAFT, **fit).check(T0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"matchers": {"camera": "1"}}, "camera cannot be matched; alertname, modality, model_version, severity can"),
        ({"matchers": {}}, "a silence needs one of"),
        ({"matchers": {"modality": ""}}, "modality must equal something"),
        ({"start": T0.replace(tzinfo=None)}, "start: 2026-03-01T00:00:00 needs a time zone"),
        ({"end": T0}, "later than the start"),
        ({"start": T0 - 2 * HOUR, "end": T0}, "has passed already"),
        ({"end": T0 + LONGEST + timedelta(seconds=1)}, "30 days at most"),
        ({"owner": " "}, "owner: it needs 1 to 500 characters"),
        ({"reason": "x" * 501}, "reason: it needs 1 to 500 characters"),
        ({"reason": "a\0b"}, "reason: it needs 1 to 500 characters, none of them NUL"),
    ],
)
def test_what_is_refused_and_why(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SilenceError, match=said):
        replace(DRAFT, **wrong).check(T0)


labels = st.fixed_dictionaries({name: st.sampled_from(["a", "b"]) for name in LABELS})
matchers = st.dictionaries(st.sampled_from(LABELS), st.sampled_from(["a", "b"]))


@given(labels, matchers, st.integers(-2, 5))
def test_it_holds_what_equals_all_its_matchers_between_its_times(
    alert: dict[str, str], wanted: dict[str, str], hours: int
) -> None:
    silence = Silence(1, Kind.MAINTENANCE, wanted, T0, T0 + 3 * HOUR, "ann", "why")
    expected = 0 <= hours < 3 and set(wanted.items()) <= set(alert.items())
    assert silence.holds(alert, T0 + hours * HOUR) is expected

"""The alert state machine: stories, then laws that hold for every sequence of verdicts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.alert import Alert, Event, Patience, Signal, State, Step, fingerprint, step

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOP = timedelta(minutes=5)
PATIENCE = Patience(for_windows=2, clear_windows=2)
B, U, C, N = Signal.BREACH, Signal.URGENT, Signal.CLEAR, Signal.UNKNOWN


def play(signals: list[Signal], patience: Patience = PATIENCE) -> list[Step]:
    steps, alert = [], None
    for index, signal in enumerate(signals):
        taken = step(alert, "series", patience, signal, T0 + index * HOP)
        alert = taken.alert
        steps.append(taken)
    return steps


def events(signals: list[Signal], patience: Patience = PATIENCE) -> list[Event]:
    return [taken.event for taken in play(signals, patience)]


def test_it_fires_after_its_windows_and_resolves_after_clear_ones() -> None:
    steps = play([C, B, B, B, C, C, C])
    assert [taken.event for taken in steps] == [
        Event.NONE,
        Event.NONE,
        Event.FIRED,
        Event.NONE,
        Event.NONE,
        Event.RESOLVED,
        Event.NONE,
    ]
    resolved = steps[5].alert
    assert resolved is not None
    assert (resolved.pending_since, resolved.firing_since) == (T0 + HOP, T0 + 2 * HOP)
    assert (resolved.clear_since, resolved.resolved_at) == (T0 + 4 * HOP, T0 + 5 * HOP)
    assert steps[0].alert is None


def test_a_breach_while_clearing_starts_the_clearing_over() -> None:
    assert events([B, B, C, B, C, C]) == [*[Event.NONE], Event.FIRED, *[Event.NONE] * 3, Event.RESOLVED]


def test_breaches_must_come_in_a_row_to_fire() -> None:
    assert Event.FIRED not in events([B, C, B, C, B, C])


def test_an_urgent_breach_does_not_wait() -> None:
    assert events([U]) == [Event.FIRED]
    assert events([B, U, U]) == [Event.NONE, Event.FIRED, Event.NONE]


def test_a_window_seen_again_changes_nothing() -> None:
    alert = play([B, B])[-1].alert
    assert alert is not None
    for again in (T0, T0 + HOP):
        for signal in Signal:
            assert step(alert, "series", PATIENCE, signal, again) == Step(alert, Event.NONE)


def test_a_resolved_alert_is_not_reopened_by_its_own_windows() -> None:
    alert = play([B, B, C, C])[-1].alert
    assert alert is not None
    assert step(alert, "series", PATIENCE, U, T0 + 3 * HOP).event is Event.NONE
    later = step(alert, "series", PATIENCE, U, T0 + 4 * HOP)
    assert later.event is Event.FIRED
    assert later.alert is not None
    assert later.alert.pending_since == T0 + 4 * HOP


def test_patience_needs_at_least_one_window() -> None:
    with pytest.raises(ValueError, match="at least one window"):
        Patience(for_windows=0, clear_windows=1)


def test_fingerprints_tell_series_apart_and_not_the_order_of_labels() -> None:
    first = fingerprint("EmbeddingDrift", {"model": "fusion", "modality": "image"})
    assert first == fingerprint("EmbeddingDrift", {"modality": "image", "model": "fusion"})
    assert len(first) == 64
    others = {
        fingerprint("EmbeddingDrift", {"model": "fusion", "modality": "text"}),
        fingerprint("PairingDrift", {"model": "fusion", "modality": "image"}),
        fingerprint("EmbeddingDrift", {"model": "fusionmodality", "": "image"}),
    }
    assert len(others | {first}) == 4


patiences = st.builds(Patience, st.integers(1, 4), st.integers(1, 4))
sequences = st.lists(st.sampled_from(list(Signal)), max_size=40)


@given(sequences, patiences)
def test_events_alternate_and_a_resolve_comes_only_after_a_firing(signals: list[Signal], patience: Patience) -> None:
    told = [event for event in events(signals, patience) if event is not Event.NONE]
    assert told == [Event.FIRED, Event.RESOLVED] * (len(told) // 2) + [Event.FIRED] * (len(told) % 2)


@given(sequences, patiences)
def test_unknown_changes_nothing_wherever_it_comes(signals: list[Signal], patience: Patience) -> None:
    alert: Alert | None = None
    for index, signal in enumerate(signals):
        end = T0 + 2 * index * HOP
        assert step(alert, "series", patience, N, end - HOP) == Step(alert, Event.NONE)
        alert = step(alert, "series", patience, signal, end).alert
    without = [signal for signal in signals if signal is not N]
    assert [e for e in events(signals, patience) if e is not Event.NONE] == [
        e for e in events(without, patience) if e is not Event.NONE
    ]


@given(sequences, patiences, st.integers(0, 39))
def test_evaluating_everything_again_after_a_restart_changes_nothing(
    signals: list[Signal], patience: Patience, again: int
) -> None:
    alert = play(signals, patience)[-1].alert if signals else None
    if alert is None:
        return
    seen = alert.last_window_end
    for index in range(min(again, len(signals))):
        end = T0 + index * HOP
        if end <= seen:
            assert step(alert, "series", patience, signals[index], end) == Step(alert, Event.NONE)


@given(sequences, patiences)
def test_times_are_in_order(signals: list[Signal], patience: Patience) -> None:
    for taken in play(signals, patience):
        alert = taken.alert
        if alert is None:
            continue
        assert alert.pending_since <= alert.last_window_end
        assert (alert.state is State.RESOLVED) == (alert.resolved_at is not None)
        if alert.firing_since is not None:
            assert alert.pending_since <= alert.firing_since
        if taken.event is Event.FIRED:
            assert alert.firing_since == alert.last_window_end

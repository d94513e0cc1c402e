"""When a message is due: who groups by himself is told at once, others after a wait and an interval."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from monitor.alerts.grouping import Group, Timing, due_at
from monitor.alerts.stages import FIRING, SENT, Notice
from tests.unit.alerts.test_stages import T0, context, tracked

TIMING = Timing(at_once=frozenset({"pager"}))
ALERT = tracked(1, "EmbeddingDrift")


def waits(receiver: str, group: Group, told: bool = False) -> float:
    where = context(ALERT, told={(1, FIRING, receiver): SENT} if told else {})
    if told:
        where = replace(where, sent={(1, FIRING, receiver): T0})
    return (due_at(Notice(ALERT, FIRING, receiver), group, where, TIMING) - T0).total_seconds()


def test_a_new_group_waits_for_more_and_a_known_one_for_its_interval() -> None:
    assert waits("log", Group()) == 30
    assert waits("log", Group(waiting_until=T0 + timedelta(seconds=12))) == 12
    assert waits("log", Group(last_sent=T0 - timedelta(minutes=1)), told=True) == 240
    assert waits("log", Group(last_sent=T0 - timedelta(minutes=9)), told=True) == 30


def test_who_groups_by_himself_is_told_at_once() -> None:
    groups = [Group(), Group(waiting_until=T0 + timedelta(seconds=12)), Group(last_sent=T0)]
    assert [waits("pager", group) for group in groups] == [0, 0, 0]

"""A game day's plan and its accounts; the faults themselves are played by `fusionwatch-demo gameday`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from demo.faults import FAULTS
from demo.gameday import AFTERWARDS, GameDay, Played, false_pages, schedule
from demo.ledger import Totals
from demo.receiver import Notification

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL_WELL = Totals(sent=10, answered=10, logged=10, dead_lettered=0, lost=0, duplicated=0, labels=0)
IMAGES = next(fault for fault in FAULTS if fault.title == "no images come")
WORKER = next(fault for fault in FAULTS if (fault.kind, fault.title) == ("worker", "killed"))


def told(alertname: str, seconds: float, modality: str = "all", state: str = "firing") -> Notification:
    body: dict[str, Any] = {"alertname": alertname, "modality": modality, "state": state, "severity": "page"}
    return Notification(BEGAN + timedelta(seconds=seconds), body)


def played(**changes: Any) -> Played:
    survived = Played("data", "no images come", BEGAN, "alert", 8.0, BEGAN + timedelta(seconds=30), 20.0)
    return replace(survived, **changes)


def test_a_seed_gives_one_plan_with_every_fault_in_each_round() -> None:
    plan = schedule(3, rounds=2)
    assert plan == schedule(3, rounds=2)
    assert [fault for fault, _, _ in plan] != [fault for fault, _, _ in schedule(4, rounds=2)]
    for half in (plan[: len(FAULTS)], plan[len(FAULTS) :]):
        assert {fault.inject for fault, _, _ in half} == {fault.inject for fault in FAULTS}
    assert all(fault.lasts[0] <= seconds <= fault.lasts[1] for fault, _, seconds in plan)


def test_every_class_of_fault_is_there() -> None:
    kinds = {"broker", "database", "worker", "monitor", "trainer", "receiver", "clock", "disk"}
    assert kinds <= {fault.kind for fault in FAULTS}


def test_a_page_that_no_fault_of_its_time_explains_is_false() -> None:
    plan = [(IMAGES, 1.0, 30.0), (WORKER, 1.0, 5.0)]
    later = played(kind="worker", began=BEGAN + timedelta(minutes=5), ended=BEGAN + timedelta(minutes=6))
    late = 30 + AFTERWARDS.total_seconds()
    messages = [
        told("ModalityUnavailable", 8, "image"),
        told("ModalityUnavailable", 8, "text"),
        told("ModalityUnavailable", -1, "image"),
        told("ModalityUnavailable", late + 1, "image"),
        told("ModalityUnavailable", late + 1, "image", "resolved"),
        told("StreamSilent", 330),
        told("StreamSilent", 8),
    ]
    found = false_pages(messages, plan, [played(), later])
    assert found == [
        "12:00:08 page ModalityUnavailable (text)",
        "11:59:59 page ModalityUnavailable (image)",
        "12:01:31 page ModalityUnavailable (image)",
        "12:00:08 page StreamSilent (all)",
    ]


def test_a_day_is_met_if_all_was_noticed_and_survived_and_nothing_lost() -> None:
    def day(each: Played, totals: Totals = ALL_WELL, pages: tuple[str, ...] = ()) -> bool:
        return GameDay(1, [each], totals, pages).met

    assert day(played())
    assert not day(played(noticed_after=None))
    assert not day(played(recovered_after=None))
    assert not day(played(), replace(ALL_WELL, lost=1))
    assert not day(played(), replace(ALL_WELL, duplicated=1))
    assert not day(played(), pages=("12:00:08 page StreamSilent (all)",))

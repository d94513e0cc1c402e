"""Where reading goes on, as the stored position and what the broker tells of the log decide."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from inference.gaps import Gap, Kind, Log, resume
from inference.offsets import Move, Position
from inference.record import Partition
from inference.topics import topic_id

WHERE = Partition("t", 0)
OLD, NEW = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("stored", "log", "start"),
    [
        (None, Log(3, 9, NEW), 3),
        (Position(5), Log(0, 9, NEW), 5),  # stored before ids were
        (Position(5, OLD), Log(0, 9), 5),  # a broker without ids
        (Position(5, OLD), Log(0, 9, OLD), 5),
        (Position(9, OLD), Log(0, 9, OLD), 9),
        (Position(5, OLD), Log(5, 5, OLD), 5),
        (Position(5, OLD), Log(0, 9, OLD, cut=7), 5),
    ],
)
def test_reading_goes_on_at_the_stored_offset_while_the_log_has_it(
    stored: Position | None, log: Log, start: int
) -> None:
    assert resume(WHERE, stored, log) == (start, None)


@pytest.mark.parametrize(
    ("stored", "log", "kind", "resumed", "lost"),
    [
        (Position(5, OLD), Log(7, 9, OLD), Kind.EXPIRED, 7, 2),
        (Position(5), Log(7, 9), Kind.EXPIRED, 7, 2),
        (Position(5, OLD), Log(0, 3, OLD), Kind.RESET, 0, 0),
        (Position(5, OLD), Log(0, 9, OLD, cut=2), Kind.RESET, 2, 0),
        (Position(5, OLD), Log(0, 3, NEW), Kind.RESET, 0, 0),
        (Position(5, OLD), Log(0, 9, NEW), Kind.RESET, 0, 0),
        (Position(5, OLD), Log(7, 9, NEW), Kind.RESET, 7, 0),  # what left it is no loss that could be counted
        (Position(0, OLD), Log(0, 9, NEW), Kind.RESET, 0, 0),
    ],
)
def test_a_log_without_the_stored_offset_of_that_topic_is_a_gap(
    stored: Position, log: Log, kind: Kind, resumed: int, lost: int
) -> None:
    start, gap = resume(WHERE, stored, log)
    assert gap is not None
    assert gap == Gap(WHERE, stored.next, resumed, stored.topic_id, log.topic_id)
    assert (start, gap.kind, gap.lost) == (resumed, kind, lost)


def test_the_move_past_a_gap_expects_what_was_stored_and_keeps_an_id_that_no_other_replaces() -> None:
    assert Gap(WHERE, 5, 0, OLD, NEW).move == Move(5, 0, OLD, NEW)
    assert Gap(WHERE, 5, 7, OLD, None).move == Move(5, 7, OLD, OLD)
    assert Gap(WHERE, 5, 7, None, NEW).move == Move(5, 7, None, NEW)


@pytest.mark.parametrize(("told", "known"), [(None, None), (UUID(int=0), None), (NEW, NEW)])
def test_an_id_of_zeros_is_none(told: UUID | None, known: UUID | None) -> None:
    """So brokers answer that have none, and about topics that are not there."""
    consumer: Any = SimpleNamespace(_cluster=SimpleNamespace(topic_id=lambda _: told))
    assert topic_id(consumer, "t") == known

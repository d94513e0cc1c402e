"""How far partitions are read and written, by the book."""

from __future__ import annotations

from uuid import UUID

from inference.offsets import Move, Position
from inference.positions import Positions
from inference.record import Partition
from tests.unit.inference.messages import record

WHERE = Partition(record(b"").topic, record(b"").partition)
OLD, NEW = UUID(int=1), UUID(int=2)


def test_a_move_expects_what_is_stored_and_ends_after_the_last_record() -> None:
    positions = Positions()
    positions.learn(WHERE, Position(5, OLD))
    positions.topic_id = OLD
    records = [record(b"{}", offset=offset) for offset in (5, 9)]
    assert positions.moves(records) == {WHERE: Move(5, 10, OLD, OLD)}
    positions.stored(positions.moves(records))
    assert positions.moves([record(b"{}", offset=12)]) == {WHERE: Move(10, 13, OLD, OLD)}


def test_an_id_is_stored_with_the_first_move_after_it_became_known_and_kept_where_a_broker_gives_none() -> None:
    for stored, known, move in (
        (None, NEW, Move(None, 1, None, NEW)),
        (Position(0), NEW, Move(0, 1, None, NEW)),
        (Position(0, OLD), None, Move(0, 1, OLD, OLD)),
        (None, None, Move(None, 1)),
    ):
        positions = Positions()
        positions.learn(WHERE, stored)
        positions.topic_id = known
        assert positions.moves([record(b"{}", offset=0)]) == {WHERE: move}


def test_what_was_handed_out_is_in_hand_until_it_is_stored() -> None:
    positions = Positions()
    positions.learn(WHERE, None)
    assert not positions.in_hand(WHERE)
    records = [record(b"{}", offset=0)]
    positions.read(records)
    assert positions.in_hand(WHERE)
    positions.stored(positions.moves(records))
    assert (positions.in_hand(WHERE), positions.next(WHERE)) == (False, 1)
    positions.clear()
    assert (positions.partitions, positions.topic_id) == (set(), None)
    positions.stored({WHERE: Move(1, 2)})
    assert WHERE not in positions, "it was given up"

"""How far each partition of a group member is read, and how far that is written: book-keeping without a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from inference.offsets import Move, Position
from inference.record import Partition, Record, next_offsets


class Positions:
    """The partitions whose stored position is known, with what was read beyond it."""

    def __init__(self) -> None:
        self.topic_id: UUID | None = None  # of the topic whose positions these are, where it is known
        self._stored: dict[Partition, Position | None] = {}
        self._read: dict[Partition, int] = {}  # the offset after the last record that was handed out

    def clear(self) -> None:
        """Forget everything."""
        self.topic_id = None
        self._stored.clear()
        self._read.clear()

    @property
    def partitions(self) -> set[Partition]:
        """Those that are known."""
        return set(self._stored)

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._stored

    def learn(self, partition: Partition, stored: Position | None) -> None:
        """Take over what the database says: None where it has no row."""
        self._stored[partition] = stored

    def read(self, records: Sequence[Record]) -> None:
        """These were handed out."""
        self._read.update(next_offsets(records))

    def next(self, partition: Partition) -> int:
        """The stored next offset; 0 where there is none."""
        stored = self._stored.get(partition)
        return 0 if stored is None else stored.next

    def in_hand(self, partition: Partition) -> bool:
        """Whether something that was handed out is not written."""
        return self._read.get(partition, 0) > self.next(partition)

    def moves(self, records: Sequence[Record]) -> dict[Partition, Move]:
        """The moves that a transaction with these records must make."""
        moves = {}
        for partition, end in next_offsets(records).items():
            stored = self._stored.get(partition)
            if stored is None:
                moves[partition] = Move(None, end, topic_id=self.topic_id)
            else:
                # a broker that gives no id now is no reason to forget the one it gave
                moves[partition] = Move(stored.next, end, stored.topic_id, self.topic_id or stored.topic_id)
        return moves

    def stored(self, moves: Mapping[Partition, Move]) -> None:
        """Take over what a committed transaction stored."""
        for partition, move in moves.items():
            if partition in self._stored:
                self._stored[partition] = move.position

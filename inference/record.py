"""One message as it was read from Kafka, free of the client library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

Header = tuple[str, bytes | None]


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """A topic's partition."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """A message: where it lay, its bytes, and when this process got it.

    `received` is the process's monotonic clock in seconds, `received_at` its wall clock (UTC).
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: tuple[Header, ...] = field(repr=False)
    received: float
    received_at: datetime

    @property
    def source(self) -> Partition:
        """The partition it was read from."""
        return Partition(self.topic, self.partition)

    def header(self, name: str) -> bytes | None:
        """The last header of that name, compared without case."""
        wanted = name.lower()
        return next((value for key, value in reversed(self.headers) if key.lower() == wanted), None)


def next_offsets(records: Sequence[Record]) -> Mapping[Partition, int]:
    """For each partition the offset after its last record."""
    ends: dict[Partition, int] = {}
    for record in records:
        ends[record.source] = max(ends.get(record.source, 0), record.offset + 1)
    return ends

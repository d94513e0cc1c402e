"""How a poll is spread over the threads that open it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from inference.courtesy import Courtesy
from inference.record import Record
from inference.stages.channel import Channel
from inference.stages.open import WORTH_A_THREAD, OpenStage
from inference.stages.parcel import Polled
from tests.support.local import LocalServing
from tests.unit.inference.tiny import tiny_card


class Told:
    def open(self, records: Sequence[Record], _card: Any) -> list[int]:
        return [record.offset for record in records]


@pytest.mark.parametrize(
    ("messages", "size", "parcels"),
    [
        (1, 1, [1]),
        (10, 1000, [10]),
        (10, WORTH_A_THREAD // 4, [4, 4, 2]),
        (3, 10 * WORTH_A_THREAD, [1, 1, 1]),
        (40, 100, [16, 16, 8]),
        (40, WORTH_A_THREAD, [14, 14, 12]),
    ],
)
def test_so_many_threads_as_the_messages_are_worth(messages: int, size: int, parcels: list[int]) -> None:
    target = Channel[Polled](100)
    opener: Any = Told()
    stage = OpenStage(opener, target, threads=3, most=16, courtesy=Courtesy())
    now = datetime.now(UTC)
    records = [Record("t", 0, offset, None, b"?" * size, (), 0.0, now) for offset in range(messages)]
    serving: Any = LocalServing(tiny_card(), None)
    stage.submit(records, serving, epoch=7, since=1.5)
    got = [target.get(10) for _ in range(len(target))]
    opened: list[Any] = [parcel.opened.result(10) for parcel in got if parcel is not None]
    stage.close()
    assert [len(part) for part in opened] == parcels
    assert [offset for part in opened for offset in part] == list(range(messages))
    assert {(parcel.epoch, parcel.since) for parcel in got if parcel is not None} == {(7, 1.5)}

"""A recorder to test, and what must be true of its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, func, select

from inference.modalities.base import modalities
from inference.offsets import Move
from inference.outcome import Outcome, Predicted
from inference.record import Partition
from inference.recorder import Recorder
from inference.summarise import Preview, WindowSummaries
from migrations.connect import connect
from migrations.schema.prediction_log import consumer_offsets, dead_letters, modality_log, prediction_log, request_ids
from migrations.schema.summaries import summaries
from tests.support.predicted import CLASSES, FINGERPRINTS, TOPIC, VERSION, predicted

TABLES = (prediction_log, modality_log, request_ids, dead_letters, consumer_offsets, summaries)
WHERE = Partition(TOPIC, 0)
ROWS = 20


class Summaries(WindowSummaries):
    """Window summaries that let something happen in mid-transaction: the rows are copied, their sums are not."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__(modalities(), 60, 8, "w1")
        self.add_version(VERSION, len(CLASSES), FINGERPRINTS, None)
        self._meanwhile = meanwhile

    def preview(self, rows: Sequence[Predicted]) -> Preview:
        self._meanwhile()
        return super().preview(rows)


def recorder(engine: Engine, meanwhile: Callable[[], object] = lambda: None, **changes: Any) -> Recorder:
    return Recorder(engine, "group", "k1", Summaries(meanwhile), **changes)


@contextmanager
def connected(url: str, application: str = "the test") -> Iterator[Engine]:
    engine = connect(url, application=application)
    yield engine
    engine.dispose()


def batch(n: int = ROWS) -> list[Predicted]:
    return [predicted(f"r{index:04}", index) for index in range(n)]


def moves(outcomes: Sequence[Outcome], expected: int | None = None) -> dict[Partition, Move]:
    return {WHERE: Move(expected, 1 + max(outcome.record.offset for outcome in outcomes))}


def counts(engine: Engine) -> dict[str, int]:
    """Rows of each table that has any."""
    with engine.connect() as connection:
        found = {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in TABLES}
    return {name: count for name, count in found.items() if count}


def complete(n: int) -> dict[str, int]:
    """The counts after n requests with two modalities each, all of one time slot."""
    return {"prediction_log": n, "modality_log": 2 * n, "request_ids": n, "consumer_offsets": 1, "summaries": 3}


def logged(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(prediction_log.c.request_id).order_by(prediction_log.c.request_id)))


def assert_nothing_lost(ours: Recorder, engine: Engine, rows: Sequence[Outcome]) -> None:
    """A failed write left nothing behind; the same again writes everything, and once more nothing."""
    assert counts(engine) == {}
    assert ours.write(rows, moves(rows)).logged == len(rows)
    assert counts(engine) == complete(len(rows))
    again = ours.write(rows, moves(rows, len(rows)))
    assert (again.logged, again.duplicates) == (0, len(rows))
    assert counts(engine) == complete(len(rows))

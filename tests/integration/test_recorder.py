"""What the recorder writes and what it refuses, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import IntegrityError

from inference.errors import Code, Refusal
from inference.offsets import Move
from inference.outcome import DeadLetter, Predicted
from migrations.schema.partitions import TABLES as DAILY
from migrations.schema.partitions import ensure_partitions
from migrations.schema.prediction_log import dead_letters
from tests.support.predicted import predicted, too_large
from tests.support.recording import (
    WHERE,
    assert_nothing_lost,
    batch,
    complete,
    connected,
    counts,
    logged,
    moves,
    recorder,
)


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    with connected(database) as engine:
        yield engine


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    sent: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", keep)
    yield sent
    event.remove(engine, "before_cursor_execute", keep)


def test_a_write_looks_up_before_its_transaction_and_each_of_its_steps(engine: Engine) -> None:
    rows = batch()
    with statements(engine) as sent:
        recorder(engine, between=lambda: sent.append("")).write(rows, moves(rows))
    before = {now.split(" (")[0]: last for last, now in zip(["", *sent], sent, strict=False) if now}
    steps = ("INSERT INTO request_ids", "COPY prediction_log", "COPY modality_log", "INSERT INTO summaries")
    assert [step for step in steps if before[step] != ""] == []
    assert sent[0] == ""


def test_rows_that_fit_nowhere_become_dead_letters_and_the_rest_is_written(engine: Engine) -> None:
    bad = [7, 300, 301]
    rows = [too_large(row) if row.record.offset in bad else row for row in batch(512)]
    with statements(engine) as sent:
        written = recorder(engine).write(rows, moves(rows))
    assert (written.logged, written.duplicates, written.dead_lettered) == (509, 0, 3)
    assert [letter.record.offset for letter in written.refused] == bad
    assert {letter.refusal.code for letter in written.refused} == {Code.NOT_STORABLE}
    assert logged(engine) == [row.request.request_id for row in rows if row.record.offset not in bad]
    with engine.connect() as connection:
        stored = connection.execute(select(dead_letters.c.offset, dead_letters.c.error_code)).all()
    assert sorted(map(tuple, stored)) == [(offset, "not_storable") for offset in bad]
    assert counts(engine) == {**complete(509), "dead_letters": 3}
    # by halving: at most two attempts for each bad row at each of nine levels, and three of the whole
    assert sum(statement.startswith("COPY prediction_log") for statement in sent) <= 3 + 2 * 3 * 9


def test_a_dead_letter_is_sent_before_anything_moves_past_it(engine: Engine) -> None:
    rows = [too_large(predicted("a", 0)), predicted("b", 1)]
    sent: list[int] = []

    def send(letters: Sequence[DeadLetter]) -> None:
        sent.extend(letter.record.offset for letter in letters)
        assert counts(engine) == {}
        if len(sent) == 1:
            raise ConnectionError("the broker is away")

    ours = recorder(engine)
    with pytest.raises(ConnectionError):
        ours.write(rows, moves(rows), send)
    assert counts(engine) == {}
    written = ours.write(rows, moves(rows), send)
    assert (written.logged, written.dead_lettered, sent) == (1, 1, [0, 0])


def test_the_id_of_a_refused_row_stays_free(engine: Engine) -> None:
    ours = recorder(engine)
    ours.write([too_large(predicted("a"))], {WHERE: Move(None, 1)})
    assert ours.write([predicted("a", 1)], {WHERE: Move(1, 2)}).logged == 1


def test_of_equal_ids_the_first_that_fits_is_written(engine: Engine) -> None:
    rows = [too_large(predicted("a", 0)), too_large(predicted("a", 1)), predicted("a", 2), predicted("a", 3)]
    written = recorder(engine).write(rows, {WHERE: Move(None, 4)})
    assert (written.logged, written.duplicates, written.dead_lettered) == (1, 1, 2)
    assert [letter.record.offset for letter in written.refused] == [0, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda row: replace(row, request=replace(row.request, request_id="x" * 129)),
        lambda row: replace(row, request=replace(row.request, source="a\0b")),
        lambda row: replace(row, request=replace(row.request, source="a\ud800b")),
        lambda row: replace(row, request=replace(row.request, schema_version=2**15)),
        lambda row: replace(row, modalities={"image\0": row.modalities["image"]}),
    ],
    ids=["long id", "NUL", "lone surrogate", "large number", "NUL in a modality"],
)
def test_a_value_that_a_column_cannot_hold_is_refused(engine: Engine, change: Callable[[Predicted], Predicted]) -> None:
    written = recorder(engine).write([change(predicted("a", 0)), predicted("b", 1)], {WHERE: Move(None, 2)})
    assert (written.logged, len(written.refused)) == (1, 1)
    assert logged(engine) == ["b"]


def test_the_worker_s_own_dead_letters_are_written_and_not_refused_again(engine: Engine) -> None:
    letter = DeadLetter(predicted("a").record, Refusal(Code.NOT_DECODABLE, "no JSON"))
    written = recorder(engine).write([letter], {WHERE: Move(None, 1)})
    assert (written.dead_lettered, written.refused) == (1, ())
    assert counts(engine) == {"dead_letters": 1, "consumer_offsets": 1}


def test_ids_are_claimed_in_the_same_order_by_every_worker(engine: Engine) -> None:
    rows = batch()[::-1]
    recorder(engine).write(rows, moves(rows))
    with engine.connect() as connection:
        claimed = list(connection.scalars(text("SELECT request_id FROM request_ids ORDER BY ctid")))
    assert claimed == [row.request.request_id for row in batch()]


@pytest.mark.parametrize("there", [(), DAILY[:1]], ids=["both", "the second"])
def test_a_missing_partition_says_what_to_run(
    engine: Engine, caplog: pytest.LogCaptureFixture, there: tuple[str, ...]
) -> None:
    later, rows = date(2099, 1, 1), batch()
    ours = recorder(engine, clock=lambda: datetime(2099, 1, 1, 12, tzinfo=UTC))
    with engine.begin() as connection:
        ensure_partitions(connection, later, 0, there)
    with pytest.raises(IntegrityError):
        ours.write([too_large(rows[0]), *rows[1:]], moves(rows))
    with pytest.raises(IntegrityError):
        ours.write(rows, moves(rows))
    assert len(caplog.messages) == 2
    assert all("fusionwatch-monitor run" in message for message in caplog.messages)
    with engine.begin() as connection:
        ensure_partitions(connection, later, 0)
    assert_nothing_lost(ours, engine, rows)


def test_another_failed_check_is_told_as_it_is(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE prediction_log ADD CONSTRAINT never CHECK (false) NOT VALID")
    rows = batch()
    with pytest.raises(IntegrityError):
        recorder(engine).write(rows, moves(rows))
    assert caplog.messages == []
    assert counts(engine) == {}

"""A file of the archive is what was sent to it, or it is refused; equal rows have equal digests however they lie."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrations.schema.prediction_log import modality_log, prediction_log
from migrations.schema.summaries import summaries
from monitor.archive import folder
from monitor.archive.columns import Digest, schema
from monitor.archive.folder import BATCH, Archive
from monitor.errors import ArchiveError

DAY = date(2026, 1, 31)
FIELDS = pa.schema(
    [
        ("name", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("share", pa.float64()),
        ("shares", pa.list_(pa.float64())),
        ("fine", pa.bool_()),
        ("bins", pa.binary()),
    ]
)
NUMBERS = st.floats(allow_nan=False)
ROWS = st.lists(
    st.tuples(
        st.none() | st.text(max_size=3),
        st.none() | st.integers(0, 2**40).map(lambda seconds: datetime.fromtimestamp(seconds / 64, UTC)),
        st.none() | NUMBERS,
        st.none() | st.lists(st.none() | NUMBERS, max_size=3),
        st.none() | st.booleans(),
        st.none() | st.binary(max_size=3),
    ),
    max_size=6,
)


def batch(rows: list[Any]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(FIELDS)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, FIELDS, strict=True)], schema=FIELDS
    )


def digest(given: pa.RecordBatch) -> str:
    told = Digest(FIELDS)
    told.update(given)
    return told.hexdigest()


@settings(max_examples=50)
@given(ROWS, ROWS)
def test_a_digest_tells_rows_apart_and_not_how_they_lie_in_memory(rows: list[Any], others: list[Any]) -> None:
    within = batch([*others, *rows, *others]).slice(len(others), len(rows))
    assert digest(within) == digest(batch(rows))
    assert (digest(batch(rows)) == digest(batch(others))) == (repr(rows) == repr(others))


def numbered(count: int) -> Iterator[pa.RecordBatch]:
    at = datetime(2026, 1, 31, tzinfo=UTC)
    rows = [(f"r{n}", at, n / 7, [n / 3, None], n % 2 == 0, bytes([n % 256])) for n in range(count)]
    for start in range(0, count, BATCH):
        yield batch(rows[start : start + BATCH])


def test_what_is_read_is_what_was_saved_over_several_batches_and_days(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "new" / "folder")
    saved = archive.save("log", DAY, FIELDS, numbered(BATCH + 5))
    archive.save("log", date(2026, 2, 1), FIELDS, numbered(3))
    assert saved.path == tmp_path / "new/folder/log/day=2026-01-31.parquet"
    assert saved.rows == BATCH + 5
    assert archive.days("log", DAY, DAY) == [saved]
    table = archive.read("log", DAY, date(2026, 2, 1))
    assert table is not None
    assert table.to_pylist() == pa.Table.from_batches([*numbered(BATCH + 5), *numbered(3)]).to_pylist()
    assert archive.read("log", date(2026, 2, 2), date(2026, 2, 9)) is None
    assert [path.name for path in saved.path.parent.iterdir() if path.suffix != ".parquet"] == []


def test_a_day_without_rows_has_its_file_too(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    assert archive.save("log", DAY, FIELDS, iter(())).rows == 0
    table = archive.read("log", DAY, DAY)
    assert table is not None
    assert table.num_rows == 0


def test_a_disk_that_keeps_something_else_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path)
    before = archive.save("log", DAY, FIELDS, numbered(3)).path.read_bytes()
    write = folder._write

    def forgetful(path: Path, fields: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Digest:
        told = write(path, fields, batches)
        write(path, fields, numbered(4))
        return told

    monkeypatch.setattr(folder, "_write", forgetful)
    with pytest.raises(ArchiveError, match=r"day=2026-01-31\.part holds 4 rows with digest .*, not 5 rows with"):
        archive.save("log", DAY, FIELDS, numbered(5))
    monkeypatch.undo()
    assert [path.read_bytes() for path in (tmp_path / "log").glob("*.parquet")] == [before]
    assert archive.save("log", DAY, FIELDS, numbered(5)).rows == 5
    assert len(list((tmp_path / "log").iterdir())) == 1, "nothing is left of the attempt"


def test_a_day_is_never_replaced_by_less(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.save("log", DAY, FIELDS, numbered(3))
    archive.save("log", DAY, FIELDS, numbered(4))
    with pytest.raises(ArchiveError, match="holds 4 rows, which 3 would replace: move it away"):
        archive.save("log", DAY, FIELDS, numbered(3))


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    path = archive.save("log", DAY, FIELDS, numbered(100)).path
    whole = path.read_bytes()
    for broken in (whole[:-20], b"PAR1" + whole[4:40] + bytes(30) + whole[70:], b"not Parquet"):
        path.write_bytes(broken)
        with pytest.raises(ArchiveError, match=r"day=2026-01-31\.parquet"):
            archive.read("log", DAY, DAY)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the dataset's folder would be")
    with pytest.raises(ArchiveError, match=r"log/day=2026-01-31\.parquet cannot be written"):
        Archive(tmp_path).save("log", DAY, FIELDS, numbered(1))


def test_every_column_of_the_log_and_of_summaries_has_its_place() -> None:
    for table in (prediction_log, modality_log, summaries):
        assert schema(table.c).names == [column.name for column in table.c]

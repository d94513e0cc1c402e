"""A folder of Parquet files, one for each dataset and UTC day: `prediction_log/day=2026-01-31.parquet`.

A file is written beside its place, read back whole, and moved there only if rows and digest are those that were sent:
a file that has its name is complete. Row count and digest stand in the file's own metadata.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from monitor.archive.columns import Digest
from monitor.errors import ArchiveError

BATCH = 8192  # rows that are held, written and compared at a time
_ROWS, _DIGEST = b"fusionwatch.rows", b"fusionwatch.sha256"


@dataclass(frozen=True, slots=True)
class Saved:
    """A file of the archive: where, how many rows, and their digest."""

    path: Path
    rows: int
    sha256: str


class Archive:
    """The folder. Nothing in it is ever replaced by less."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, dataset: str, day: date) -> Path:
        """Where a dataset's day lies, or would lie."""
        return self.folder / dataset / f"day={day.isoformat()}.parquet"

    def save(self, dataset: str, day: date, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Saved:
        """Write a day, replacing a file of as many rows or fewer. Batches hold BATCH rows each but for the last.

        Raises ArchiveError where the folder cannot be written, what was read back differs, or the day's file holds more
        rows; the file that was there stays.
        """
        place = self.path(dataset, day)
        part = place.with_suffix(".part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part.unlink(missing_ok=True)  # of a run that was stopped
            sent = _write(part, schema, batches)
            self._check(part, sent)
            if place.exists() and (before := self._saved(place)).rows > sent.rows:
                raise ArchiveError(f"{place} holds {before.rows} rows, which {sent.rows} would replace: move it away")
            part.replace(place)
            _sync(place.parent)
        except OSError as error:
            raise ArchiveError(f"{place} cannot be written: {error}") from error
        return Saved(place, sent.rows, sent.hexdigest())

    def days(self, dataset: str, first: date, last: date) -> list[Saved]:
        """The files of a dataset from `first` to `last`, both included, in order of days, by their own word."""
        return [
            self._saved(place)
            for place in sorted((self.folder / dataset).glob("day=*.parquet"))
            if first.isoformat() <= place.stem.removeprefix("day=") <= last.isoformat()
        ]

    def read(
        self,
        dataset: str,
        first: date,
        last: date,
        *,
        columns: Sequence[str] | None = None,
        filters: pc.Expression | None = None,
    ) -> pa.Table | None:
        """Rows of all files of those days, in order of days; None where there are none.

        Whole files are verified: raises ArchiveError on one that cannot be read or does not hold what it says.
        """
        tables = []
        for saved in self.days(dataset, first, last):
            if columns is None and filters is None:
                self._check(saved.path, saved)
            tables.append(_table(saved.path, columns, filters))
        return pa.concat_tables(tables) if tables else None

    def _check(self, path: Path, told: Saved | Digest) -> None:
        expected = told.sha256 if isinstance(told, Saved) else told.hexdigest()
        found = _digest(path)
        if (found.rows, found.hexdigest()) != (told.rows, expected):
            raise ArchiveError(
                f"{path} holds {found.rows} rows with digest {found.hexdigest()[:12]}, not {told.rows} rows with "
                f"{expected[:12]}"
            )

    @staticmethod
    def _saved(path: Path) -> Saved:
        try:
            told = pq.read_metadata(path).metadata or {}
            return Saved(path, int(told[_ROWS]), told[_DIGEST].decode())
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            raise ArchiveError(f"{path} is no file of an archive: {error}") from error


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Digest:
    digest = Digest(schema)
    with path.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch, row_group_size=BATCH)
                digest.update(batch)
            writer.add_key_value_metadata({_ROWS: str(digest.rows).encode(), _DIGEST: digest.hexdigest().encode()})
        file.flush()
        os.fsync(file.fileno())
    return digest


def _digest(path: Path) -> Digest:
    try:
        with pq.ParquetFile(path) as file:
            digest = Digest(file.schema_arrow)
            for batch in _batches(file):
                digest.update(batch)
    except (pa.ArrowException, OSError) as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error
    return digest


def _batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    yield from file.iter_batches(batch_size=BATCH)


def _table(path: Path, columns: Sequence[str] | None, filters: pc.Expression | None) -> pa.Table:
    try:
        names = None if columns is None else list(columns)
        return pq.read_table(path, columns=names, filters=filters, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error


def _sync(folder: Path) -> None:
    """Make the move itself survive a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

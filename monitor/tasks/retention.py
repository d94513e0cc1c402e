"""Lets go of what is older than it is kept: days of the log, request ids and refusals with them, days of summaries.

Findings, alerts, jobs, labels and the audit log are kept. With an archive a day is first written there and read back;
only then it is dropped. Every step can be repeated, so that a run that was stopped anywhere is finished by the next.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, Engine, Table, text

from monitor.archive.folder import Archive, Saved
from monitor.archive.saving import save
from monitor.domain.clock import Clock
from monitor.errors import ArchiveError, RetentionError
from monitor.storage import archived, audit, partitions, pruning
from monitor.storage.partitions import Partition

_log = logging.getLogger(__name__)

# Detaching waits for transactions that read the day: behind a long one we give up and come again.
LOCK_TIMEOUT = "10s"
_TURN = "hashtext('fusionwatch.retention')"


@dataclass(frozen=True, slots=True)
class Kept:
    """How many whole days are kept, beside today; None for ever."""

    log_days: int | None
    summary_days: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is past its time: partitions, rows by table, and days of summaries."""

    partitions: tuple[Partition, ...]
    rows: dict[str, int]
    summary_days: tuple[date, ...]


class Retention:
    """The task."""

    def __init__(self, engine: Engine, kept: Kept, archive: Archive | None, clock: Clock) -> None:
        self._engine = engine
        self._kept = kept
        self._archive = archive
        self._clock = clock

    def plan(self) -> Plan:
        """What a run would let go of now. Nothing changes."""
        before, summaries_before = self._first_kept(self._kept.log_days), self._first_kept(self._kept.summary_days)
        with self._engine.connect() as connection:
            rows = (
                {table.name: pruning.older(connection, table, _midnight(before)) for table in pruning.OF_LOG}
                if before
                else {}
            )
            return Plan(
                tuple(partitions.before(connection, before)) if before else (),
                rows,
                tuple(pruning.summary_days(connection, summaries_before)) if summaries_before else (),
            )

    def run(self) -> None:
        """Let go of all that is past its time, the oldest first.

        Raises RetentionError while another run is under way, ArchiveError where a day could not be archived, and
        OperationalError where a lock is not had within LOCK_TIMEOUT: what is left is done by the next run.
        """
        plan = self.plan()
        with self._turn() as connection:
            for partition in plan.partitions:
                self._let_go(connection, partition)
        before = self._first_kept(self._kept.log_days)
        if before:
            # after their rows: an id without its row is a duplicate still, a row without its id could come twice
            for table in pruning.OF_LOG:
                self._prune(table, _midnight(before))
        for day in plan.summary_days:
            self._let_summaries_go(day)

    @contextmanager
    def _turn(self) -> Iterator[Connection]:
        """A connection in autocommit that holds the right to drop partitions."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.scalar(text(f"SELECT pg_try_advisory_lock({_TURN})")):
                raise RetentionError("another run of retention is under way")
            try:
                connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
                yield connection
            finally:
                connection.execute(text("RESET lock_timeout"))
                connection.execute(text(f"SELECT pg_advisory_unlock({_TURN})"))

    def _let_go(self, connection: Connection, partition: Partition) -> None:
        partitions.detach(connection, partition)  # first: nobody can write a row to it any more
        where = ""
        if self._archive is not None:
            with self._engine.connect() as reading:
                for each in archived.of_partition(partition):
                    saved = save(reading, self._archive, each, partition.day)
                    self._exported(connection, partition.name, saved)
                    where += f", {saved.rows} rows in {saved.path}"
        partitions.drop(connection, partition)
        _log.info("dropped %s%s", partition.name, where)

    def _prune(self, table: Table, end: datetime) -> None:
        total = 0
        while True:
            with self._engine.begin() as connection:
                deleted = pruning.delete_some(connection, table, end)
            total += deleted
            if deleted < pruning.AT_ONCE:
                break
        if total:
            _log.info("deleted %d rows of %s", total, table.name)

    def _let_summaries_go(self, day: date) -> None:
        """One transaction: a day that was archived in part must not be deleted in part."""
        with self._engine.begin() as connection:
            saved = None
            if self._archive is not None:
                saved = save(connection, self._archive, archived.of_summaries(day), day)
                self._exported(connection, f"summaries {day}", saved)
            deleted = pruning.delete_summaries(connection, day)
            if saved is not None and saved.rows != deleted:
                raise ArchiveError(f"{deleted - saved.rows} summaries of {day} came while it was archived: again later")
        _log.info("deleted %d summaries of %s%s", deleted, day, f", kept in {saved.path}" if saved else "")

    def _exported(self, connection: Connection, subject: str, saved: Saved) -> None:
        """What leaves the database stands in the audit log."""
        details = {"rows": saved.rows, "path": str(saved.path)}
        audit.record(connection, "exported", subject, actor="retention", now=self._clock.now(), details=details)

    def _first_kept(self, days: int | None) -> date | None:
        return None if days is None else self._clock.now().astimezone(UTC).date() - timedelta(days=days)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)

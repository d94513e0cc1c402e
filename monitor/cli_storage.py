"""`fusionwatch-monitor retention`, `export` and `backfill`: what is let go of, kept outside, and judged again."""

from __future__ import annotations

import getpass
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import Engine

from monitor import wiring
from monitor.archive.folder import Archive
from monitor.backfill.base import Size, engines
from monitor.cli_jobs import opened
from monitor.domain.window import Window
from monitor.errors import BackfillError, EngineError
from monitor.storage import audit
from monitor.storage.archived import LABELLED, LOG, MODALITIES, SUMMARIES
from monitor.tasks import exporting
from monitor.terminal import console

NEEDED = frozenset({SUMMARIES, LABELLED, LOG, MODALITIES})
Start = Annotated[str, typer.Option("--from", help="ISO 8601 with a time zone, as 2026-11-01T00:00Z")]
End = Annotated[str, typer.Option("--to", help="the same")]


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would go, and change nothing")] = False,
) -> None:
    """Let go of days of the log and of summaries that are past their time, as a running monitor does by itself."""
    with opened() as (settings, engine):
        task = wiring.retention(settings, engine)
        plan = task.plan()
        table = Table("what", "day", "rows", "size")
        for each in plan.partitions:
            table.add_row(each.table, each.day.isoformat(), f"about {each.rows}", f"{each.size / 2**20:.1f} MiB")
        for name, rows in plan.rows.items():
            table.add_row(name, "", str(rows), "")
        for day in plan.summary_days:
            table.add_row("summaries", day.isoformat(), "", "")
        console.print(table)
        kept = f"archived in {settings.archive_folder} first" if settings.archive_folder else "not archived"
        if dry_run:
            console.print(f"nothing was changed; what goes is {kept}", highlight=False)
            return
        task.run()
        console.print(f"gone; {kept}", highlight=False)


def export(
    folder: Annotated[Path, typer.Argument(help="where the days are kept, as <dataset>/day=2026-01-31.parquet")],
    start: Start,
    end: End,
) -> None:
    """Keep every day that the period touches as Parquet: summaries, the log, answers with their labels. Audited."""
    period = _period(start, end)
    with opened() as (_, engine):
        with engine.begin() as connection:  # before anything leaves
            audit.record(
                connection,
                "exported",
                f"{period.start.isoformat()} to {period.end.isoformat()}",
                actor=getpass.getuser(),
                now=datetime.now(UTC),
                details={"folder": str(folder.absolute())},
            )
        for saved in exporting.export(engine, Archive(folder), period):
            console.print(f"{saved.path}: {saved.rows} rows", markup=False, highlight=False, soft_wrap=True)


def backfill(
    start: Start,
    end: End,
    engine: Annotated[str, typer.Option(help="what runs it: local, ray, spark")] = "local",
    parquet: Annotated[
        Path | None, typer.Option(help="a folder that `export` or retention filled; none: the database is exported")
    ] = None,
    every: Annotated[int | None, typer.Option(min=1, help="seconds between windows; a hop by default")] = None,
    processes: Annotated[int, typer.Option(min=1, max=1024, help="processes of this machine")] = 1,
    address: Annotated[str | None, typer.Option(help="of a Ray or Spark cluster that is there already")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="compare with what is stored, and store nothing")] = False,
) -> None:
    """Judge the champion's windows that end after --from, up to --to, again; what differs is a new revision."""
    if engine not in engines():
        raise EngineError(f"unknown engine {engine!r}; there are {', '.join(engines())}")
    period = _period(start, end)
    with opened() as (settings, database):
        seconds = every or settings.hop_seconds
        if seconds % settings.hop_seconds:
            raise BackfillError(f"--every {seconds} must be a multiple of the hop, {settings.hop_seconds} s")
        task, step = wiring.backfill(settings, database), timedelta(seconds=seconds)
        with _archive(parquet, database, task.needed(period, step)) as archive:
            done = task.run(
                archive,
                period,
                every=step,
                engine=engines()[engine],
                size=Size(processes, address),
                write=not dry_run,
            )
    verb = "would be stored" if dry_run else "stored"
    console.print(
        f"{done.same} windows as they were; {done.changed} changed, {verb} as a new revision; "
        f"{done.added} never judged, {verb}; {done.findings} findings in all",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _archive(folder: Path | None, database: Engine, needed: Window) -> Iterator[Archive]:
    """The folder that was named; else one with what is needed of the database, for as long as it is."""
    if folder is not None:
        yield Archive(folder)
        return
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as made:
        archive = Archive(Path(made))
        for _ in exporting.export(database, archive, needed, NEEDED):
            pass
        yield archive


def _period(start: str, end: str) -> Window:
    try:
        return Window(datetime.fromisoformat(start), datetime.fromisoformat(end))
    except ValueError as error:
        raise BackfillError(f"that is no period: {error}") from None

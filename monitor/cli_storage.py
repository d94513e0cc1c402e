"""`fusionwatch-monitor retention` and `export`: what is let go of, and what is kept outside the database."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from monitor import wiring
from monitor.cli_jobs import opened
from monitor.terminal import console


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

"""`fusionwatch-monitor policy`: why there is a retrain or not, and a person's approval of one."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.table import Table

from monitor import loop_wiring
from monitor.cli_jobs import opened
from monitor.domain.clock import SystemClock
from monitor.storage.views import retraining
from monitor.telemetry import Metrics
from monitor.terminal import console

app = typer.Typer(no_args_is_help=True, help="What decides on retraining.")


@app.command()
def decisions(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Decisions with every reason, "no" too, newest first."""
    with opened() as (settings, engine), engine.connect() as connection:
        found = retraining.decisions_page(connection, settings.model, limit=limit)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    table = Table("id", "decided", "still so", "retrain", "reasons", show_lines=True)
    for each in found.items:
        answer = f"yes: job {each.job_id}" if each.job_id is not None else "no"
        reasons = "\n".join(f"{'+' if one.met else '-'} {one.text}" for one in each.reasons)
        confirmed = "" if each.confirmed_at is None else each.confirmed_at.isoformat(timespec="seconds")
        table.add_row(str(each.decision_id), each.decided_at.isoformat(timespec="seconds"), confirmed, answer, reasons)
    console.print(table, markup=False)


@app.command()
def approve(reason: Annotated[str, typer.Option(help="why; kept in the audit log")]) -> None:
    """Let this stand for a shown drop in quality. Every other condition still holds, and so does the gate."""
    with opened() as (settings, engine):
        task = loop_wiring.policy(settings, engine, Metrics(), SystemClock())
        made = task.approve(reason, actor=getpass.getuser())
    until = made.expires_at.isoformat(timespec="seconds")
    console.print(f"approved until {until}; `policy decisions` tells what else it takes", highlight=False)

"""`fusionwatch-monitor labels`: what people are asked to label."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from monitor.cli_jobs import opened
from monitor.storage.views import retraining
from monitor.terminal import console

app = typer.Typer(no_args_is_help=True, help="Labels that people are asked for.")


@app.callback()
def _group() -> None:
    """Keeps `queue` a command of its own, however many there are."""


@app.command()
def queue(
    closed: Annotated[bool, typer.Option("--all", help="those that have their label too")] = False,
    limit: Annotated[int, typer.Option(min=1, max=20_000, help="at most so many")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Answers to label, in this order: whoever stops early has labelled a fair part all the same."""
    now = datetime.now(UTC)
    with opened() as (settings, engine), engine.connect() as connection:
        found = retraining.queue(connection, settings.model, now, closed=closed, limit=limit)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    if found.round_id is None or found.expires_at is None:
        console.print("nobody is asked for labels", highlight=False)
        return
    state = f"until {found.expires_at:%Y-%m-%d %H:%MZ}" if found.open else "over"
    console.print(
        f"round {found.round_id}, {state}: {found.labelled} of {found.entries} labelled. {'; '.join(found.reasons)}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    table = Table("place", "request", "why", "logged", "source", "labelled")
    for each in found.items:
        logged = "" if each.logged_at is None else each.logged_at.isoformat(timespec="seconds")
        done = "" if each.labelled_at is None else each.labelled_at.isoformat(timespec="seconds")
        why = each.stratum.replace("_", " ")
        table.add_row(str(each.place), each.request_id, why, logged, each.source or "", done)
    console.print(table)

"""`fusionwatch-monitor audit` and `embeddings`: who did what, whether that record holds, and reads that go on it."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from monitor.cli_jobs import opened
from monitor.domain.audit import Head
from monitor.errors import AuditError, EmbeddingsError
from monitor.storage import audit, models
from monitor.storage.embeddings import read
from monitor.terminal import complaints, console

app = typer.Typer(no_args_is_help=True, help="The audit log: who silenced, promoted, labelled, exported or read what.")
embeddings = typer.Typer(no_args_is_help=True, help="Embeddings, which are personal data: each read is audited.")

EXIT_BROKEN = 1


@app.command()
def verify(
    seen: Annotated[str | None, typer.Option("--head", help="one printed earlier: the log must lead to it")] = None,
) -> None:
    """Follow the chain from the first row to the last; ends with 1 where a row was removed or changed."""
    try:
        head = None if seen is None else Head.parse(seen)
    except ValueError as error:
        raise AuditError(f"--head: {error}") from None
    with opened() as (_, engine), engine.connect() as connection:
        checked = audit.verify(connection, head)
    if checked.breaks:
        for each in checked.breaks:
            complaints.print(each, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_BROKEN)
    console.print(f"{checked.rows} rows hold; head {checked.last}", highlight=False, soft_wrap=True)


@app.command("list")
def listed(
    actor: Annotated[str | None, typer.Option(help="of this person or program alone")] = None,
    action: Annotated[str | None, typer.Option(help="of this action alone, as embeddings_read")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="at most so many")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Who did what, newest first. The login is the database's; the actor is who the program said it was."""
    with opened() as (_, engine), engine.connect() as connection:
        entries = audit.listed(connection, actor=actor, action=action, limit=limit)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in entries], indent=2, default=datetime.isoformat))
        return
    table = Table("row", "at", "actor", "login", "action", "subject", "details")
    for each in entries:
        at = each.at.isoformat(timespec="seconds")
        details = json.dumps(each.details, ensure_ascii=False)
        table.add_row(str(each.number), at, each.actor, each.login, each.action, each.subject, details)
    console.print(table, markup=False)


@embeddings.command()
def export(
    out: Annotated[Path, typer.Argument(help="the .npz to write; it must not exist")],
    modality: Annotated[str, typer.Option(help="a modality of the model, or fused")],
    since: Annotated[str, typer.Option(help="slots from then, as 2026-11-01T06:00Z")],
    until: Annotated[str, typer.Option(help="up to, not including, then")],
    reason: Annotated[str, typer.Option(help="why; kept in the audit log")],
    version: Annotated[str | None, typer.Option(help="by default the champion")] = None,
) -> None:
    """Write the bins of embeddings: `count` (K,) rows of each and the sums over them, by column, (K, width)."""
    if out.exists():
        raise EmbeddingsError(f"{out} exists already")
    begin, end = _time("--since", since), _time("--until", until)
    with opened() as (settings, engine):
        with engine.connect() as connection:
            chosen = version or models.champion(connection, settings.model).version
        found = read(engine, chosen, modality, begin, end, actor=getpass.getuser(), reason=reason)
    arrays: dict[str, Any] = {"count": found.count, **found.columns}
    with out.open("xb") as file:
        np.savez(file, **arrays)
    console.print(f"{found.rows} rows in {len(found.count)} bins of {chosen} written to {out}", soft_wrap=True)


def _time(name: str, text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise EmbeddingsError(f"{name}: {text!r} is no time with its zone; 2026-11-01T06:00Z is one")
    return at


@embeddings.callback()
def _group() -> None:
    """Keeps `export` a command of its own, however many there are."""

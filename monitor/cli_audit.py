"""`fusionwatch-monitor audit` and `embeddings`: who did what, whether that record holds, and reads that go on it."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from sqlalchemy import Engine

from monitor.cli_jobs import opened
from monitor.domain.audit import Head
from monitor.errors import AuditError, EmbeddingsError
from monitor.storage import audit, models
from monitor.storage.embeddings import Read, read_bins, read_sample
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


Out = Annotated[Path, typer.Argument(help="the .npz to write; it must not exist")]
Modality = Annotated[str, typer.Option(help="a modality of the model, or fused")]
Since = Annotated[str, typer.Option(help="slots from then, as 2026-11-01T06:00Z")]
Until = Annotated[str, typer.Option(help="up to, not including, then")]
Reason = Annotated[str, typer.Option(help="why; kept in the audit log")]
Version = Annotated[str | None, typer.Option(help="by default the champion")]


@embeddings.command()
def export(out: Out, modality: Modality, since: Since, until: Until, reason: Reason, version: Version = None) -> None:
    """Write the bins of embeddings: `count` (K,) rows of each and the sums over them, by column, (K, width)."""

    def of(engine: Engine, wanted: Read) -> tuple[dict[str, Any], str]:
        found = read_bins(engine, wanted)
        return {"count": found.count, **found.columns}, f"{found.rows} rows in {len(found.count)} bins"

    _export(out, of, modality, since, until, reason, version)


@embeddings.command()
def sample(out: Out, modality: Modality, since: Since, until: Until, reason: Reason, version: Version = None) -> None:
    """Write whole embeddings, some of every hour, class and route.

    `vectors` (N, d) float16; `request_ids`, `predictions`, `routes` and `hours` (N,) say whose each is.
    """

    def of(engine: Engine, wanted: Read) -> tuple[dict[str, Any], str]:
        found = read_sample(engine, wanted)
        arrays = {each.name: getattr(found, each.name) for each in fields(found)}
        return arrays, f"{len(found.vectors)} embeddings of {found.vectors.shape[1]} numbers"

    _export(out, of, modality, since, until, reason, version)


def _export(
    out: Path,
    of: Callable[[Engine, Read], tuple[dict[str, Any], str]],
    modality: str,
    since: str,
    until: str,
    reason: str,
    version: str | None,
) -> None:
    """Write the arrays that `of` reads; what it says of them is printed."""
    if out.exists():
        raise EmbeddingsError(f"{out} exists already")
    begin, end = _time("--since", since), _time("--until", until)
    with opened() as (settings, engine):
        with engine.connect() as connection:
            chosen = version or models.champion(connection, settings.model).version
        arrays, told = of(engine, Read(chosen, modality, begin, end, getpass.getuser(), reason))
    with out.open("xb") as file:
        np.savez(file, **arrays)
    console.print(f"{told} of {chosen} written to {out}", soft_wrap=True)


def _time(name: str, text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise EmbeddingsError(f"{name}: {text!r} is no time with its zone; 2026-11-01T06:00Z is one")
    return at

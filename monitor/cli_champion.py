"""`fusionwatch-monitor champion`: which version answers, how it got there, and back."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import Engine

from monitor import wiring
from monitor.errors import PromotionError
from monitor.settings import MonitorSettings
from monitor.storage import jobs
from monitor.terminal import console, read_settings

app = typer.Typer(no_args_is_help=True, help="The version that answers: the gate before it, promotion, rollback.")

Reason = Annotated[str, typer.Option(help="why; kept in the audit log")]


@contextmanager
def _opened() -> Iterator[tuple[MonitorSettings, Engine]]:
    settings = read_settings()
    engine = wiring.connect_engine(settings, "fusionwatch-monitor")
    try:
        yield settings, engine
    finally:
        engine.dispose()


@app.command()
def gate(
    job_id: Annotated[int | None, typer.Argument(min=1, help="by default the newest job that was judged")] = None,
) -> None:
    """Champion against candidate as the gate judged them: the table, then each check with its reason."""
    with _opened() as (settings, engine), engine.connect() as connection:
        judged = jobs.newest_judged(connection, settings.model, job_id)
    if judged is None:
        raise PromotionError(f"job {job_id} was not judged" if job_id else "no job was judged yet")
    verdict = (judged.result or {})["gate"]
    console.print(_compared(verdict.get("table", ())))
    for check in verdict["conditions"]:
        outcome = check.get("outcome") or ("passed" if check["met"] else "failed")
        _say(f"{outcome:<12} {check['name']}: {check['text']}")
    _say(f"job {judged.job_id}: {verdict.get('outcome', 'passed' if verdict['passed'] else 'failed')}")


def _compared(rows: list[Mapping[str, Any]]) -> Table:
    table = Table("set", "figure", "rows", "champion", "candidate", "gain, interval")
    for row in rows:
        known = row["low"] is not None
        table.add_row(
            row["set"],
            row["figure"],
            str(row["n"]),
            f"{row['champion']:.3f}",
            f"{row['candidate']:.3f}",
            f"{row['low']:+.3f} to {row['high']:+.3f}" if known else "",
        )
    return table


@app.command()
def promote(version: Annotated[str, typer.Argument(help="a registered version")], reason: Reason) -> None:
    """Make a version champion by hand, past gate and canary. Workers take it up within seconds."""
    with _opened() as (settings, engine):
        moved = wiring.champions(settings, engine).promote(version, actor=getpass.getuser(), reason=reason)
    _say(f"{moved.after} is champion in place of {moved.before}")


@app.command()
def rollback(reason: Reason) -> None:
    """Make the former champion answer again. Workers take it up within seconds."""
    with _opened() as (settings, engine):
        moved = wiring.champions(settings, engine).roll_back(actor=getpass.getuser(), reason=reason)
    _say(f"{moved.after} is champion again, in place of {moved.before}")


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)

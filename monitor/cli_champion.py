"""`fusionwatch-monitor champion`: which version answers, how it got there, and back."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import Engine

from monitor import loop_wiring, wiring
from monitor.domain.clock import SystemClock
from monitor.errors import PromotionError
from monitor.settings import MonitorSettings
from monitor.storage import jobs, rollouts
from monitor.telemetry import Metrics
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
        moved = loop_wiring.champions(settings, engine).promote(version, actor=getpass.getuser(), reason=reason)
    _say(f"{moved.after} is champion in place of {moved.before}")


@app.command()
def rollback(reason: Reason) -> None:
    """Make the former champion answer again. Workers take it up within seconds."""
    with _opened() as (settings, engine):
        moved = loop_wiring.champions(settings, engine).roll_back(actor=getpass.getuser(), reason=reason)
    _say(f"{moved.after} is champion again, in place of {moved.before}")


@app.command("try")
def try_out(version: Annotated[str, typer.Argument(help="a registered version")], reason: Reason) -> None:
    """Send a version through the stages that the settings name, as what passed the gate goes."""
    with _opened() as (settings, engine):
        task = loop_wiring.rollouts(settings, engine, Metrics(), SystemClock())
        rollout_id = task.start(version, actor=getpass.getuser(), reason=reason)
    _say(f"rollout {rollout_id} of {version} has begun")


@app.command()
def stop(reason: Reason) -> None:
    """End the open rollout: the champion answers everything again within seconds."""
    with _opened() as (settings, engine):
        task = loop_wiring.rollouts(settings, engine, Metrics(), SystemClock())
        ended = task.stop(actor=getpass.getuser(), reason=reason)
    _say(f"rollout {ended.rollout_id} of {ended.version} is over")


@app.command("rollout")
def shown() -> None:
    """The newest rollout: where its challenger is, and each check with its reasons."""
    with _opened() as (settings, engine), engine.connect() as connection:
        found = rollouts.newest(connection, settings.model, 1)
        if not found:
            raise PromotionError(f"model {settings.model!r} has had no rollout")
        checks = rollouts.checks(connection, found[0].rollout_id)
    for check in checks:
        _say(f"{check.checked_at:%Y-%m-%d %H:%M:%SZ} {check.stage} {check.percent}%: {check.outcome}")
        for reason in check.reasons:
            _say(f"    {reason['outcome']:<12} {reason['name']}: {reason['text']}")
    (one,) = found
    ended = "" if one.outcome is None else f", {one.outcome}: {one.reason}"
    _say(f"rollout {one.rollout_id} of {one.version}: {one.place.stage} at {one.place.percent}%{ended}")


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)

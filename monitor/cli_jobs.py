"""`fusionwatch-monitor jobs`: retrain jobs, how far they are, and what people do with them."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import Engine

from monitor import loop_wiring, wiring
from monitor.domain.clock import SystemClock
from monitor.domain.progress import in_words
from monitor.errors import JobStateError
from monitor.settings import MonitorSettings
from monitor.storage import jobs
from monitor.telemetry import Metrics
from monitor.terminal import console, read_settings

app = typer.Typer(no_args_is_help=True, help="Retrain jobs.")

Id = Annotated[int, typer.Argument(min=1, help="as `list` shows it")]


@contextmanager
def opened() -> Iterator[tuple[MonitorSettings, Engine]]:
    """The settings, and an engine of this command's own."""
    settings = read_settings()
    engine = wiring.connect_engine(settings, "fusionwatch-monitor")
    try:
        yield settings, engine
    finally:
        engine.dispose()


@app.command("list")
def listed(limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many")] = 20) -> None:
    """Retrain jobs, newest first, with how far each has come."""
    table = Table("id", "state", "created", "attempts", "by", "progress", "error")
    with opened() as (settings, engine), engine.connect() as connection:
        for job in jobs.newest(connection, settings.model, limit):
            table.add_row(
                str(job.job_id),
                job.state,
                _shown(job.created_at),
                str(job.attempts),
                job.claimed_by or "",
                in_words(job.progress, datetime.now(UTC)),
                job.error or "",
            )
    console.print(table)


@app.command()
def show(job_id: Id) -> None:
    """All of one job: what it was asked, how far it is, what came of it."""
    with opened() as (settings, engine), engine.connect() as connection:
        job = jobs.by_id(connection, settings.model, job_id)
    if job is None:
        raise JobStateError(f"model {settings.model!r} has no job {job_id}")
    table = Table("what", f"job {job_id}", show_header=True)
    for name, value in (
        ("state", job.state),
        ("progress", in_words(job.progress, datetime.now(UTC))),
        ("created", _shown(job.created_at)),
        ("deadline", _shown(job.deadline)),
        ("attempts", f"{job.attempts}, last by {job.claimed_by}" if job.claimed_by else str(job.attempts)),
        ("computed", f"{job.compute_seconds / 60:.1f} minutes" if job.compute_seconds else ""),
        ("error", job.error),
        ("asked", job.spec),
        ("launch", job.launch),
        ("lineage", job.lineage),
        ("tracking", job.tracking),
        ("result", job.result),
    ):
        if value:
            table.add_row(name, value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False))
    console.print(table)


@app.command()
def cancel(job_id: Id, reason: Annotated[str, typer.Option(help="why; kept in the audit log")]) -> None:
    """End a job. A trainer that works on it stops at its next heartbeat and writes nothing more."""
    with opened() as (settings, engine):
        was = loop_wiring.cancelling(settings, engine).cancel(job_id, actor=getpass.getuser(), reason=reason)
    console.print(f"job {job_id} is cancelled; it was {was.state}")


@app.command()
def retrain(reason: Annotated[str, typer.Option(help="why; kept in the audit log")]) -> None:
    """Queue a retrain job without waiting for the policy. The gate still decides on promotion."""
    with opened() as (settings, engine):
        task = loop_wiring.retrain(settings, engine, Metrics(), SystemClock())
        job_id = task.request(reason, actor=getpass.getuser())
    console.print(f"job {job_id} is queued")


def _shown(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")

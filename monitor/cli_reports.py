"""`fusionwatch-monitor report`: the report of any period, now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from monitor import report_wiring
from monitor.cli_jobs import opened
from monitor.domain.window import Window
from monitor.errors import ReportError
from monitor.tasks.report import address
from monitor.telemetry import Metrics
from monitor.terminal import console


def report(
    start: Annotated[str, typer.Option("--from", help="as 2026-11-01 or 2026-11-01T06:00Z; UTC unless it says else")],
    end: Annotated[str | None, typer.Option("--to", help="in the same form; by default a day after --from")] = None,
    out: Annotated[Path | None, typer.Option(help="a folder for its files; it is kept in the database anyway")] = None,
) -> None:
    """Make the report of a period: a summary as HTML and Markdown, and Evidently's distributions."""
    begin = _time("--from", start)
    until = begin + timedelta(days=1) if end is None else _time("--to", end)
    if until <= begin:
        raise ReportError(f"--to: {until.isoformat()} is not after --from: {begin.isoformat()}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with opened() as (settings, engine):
        made = report_wiring.making(settings, engine, Metrics()).asked(Window(begin, until))
    console.print(made.headline, markup=False, highlight=False)
    if made.error:
        console.print(f"missing: {made.error}", markup=False, highlight=False, soft_wrap=True)
    for name, body in made.files.items() if out is not None else ():
        path = Path(out or "") / name
        path.write_bytes(body)
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    console.print(address(str(settings.dashboard_url), made.report_id), markup=False, highlight=False, soft_wrap=True)


def _time(name: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ReportError(f"{name}: {text!r} is no time; 2026-11-01 and 2026-11-01T06:00Z are") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found

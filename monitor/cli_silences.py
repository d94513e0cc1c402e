"""`fusionwatch-monitor silence`: alerts that nobody is to be told of for a while."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from monitor import wiring
from monitor.domain.silence import LABELS, Kind
from monitor.errors import SilenceError
from monitor.tasks.silences import Silences
from monitor.terminal import console, read_settings

app = typer.Typer(no_args_is_help=True, help="Alerts that nobody is told of for a while; each silence is audited.")

Reason = Annotated[str, typer.Option(help="why; kept in the audit log and shown beside the alert")]
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


@contextmanager
def opened() -> Iterator[Silences]:
    """Silences of the model that the settings name, on a connection of their own."""
    settings = read_settings()
    engine = wiring.connect_engine(settings, "fusionwatch-monitor")
    try:
        yield wiring.silences(settings, engine)
    finally:
        engine.dispose()


@app.command()
def add(
    reason: Reason,
    matchers: Annotated[
        list[str] | None, typer.Argument(help=f"label=value, all must hold: {', '.join(LABELS)}")
    ] = None,
    lasting: Annotated[str | None, typer.Option("--for", help="how long, as 30m, 4h or 7d; 30d at most")] = None,
    until: Annotated[str | None, typer.Option(help="or until then, as 2026-11-01T06:00Z")] = None,
    start: Annotated[str | None, typer.Option("--from", help="by default from now")] = None,
    maintenance: Annotated[bool, typer.Option(help="a maintenance window: may do without matchers")] = False,
    owner: Annotated[str | None, typer.Option(help="by default who runs this")] = None,
) -> None:
    """Tell nobody of alerts that equal every matcher. What still fires at the end is told once."""
    if (lasting is None) == (until is None):
        raise SilenceError("end: give either --for or --until")
    with opened() as silences:
        begin = silences.now() if start is None else _time("--from", start)
        end = begin + _length(lasting) if lasting is not None else _time("--until", until or "")
        made = silences.add(
            dict(_matcher(each) for each in matchers or ()),
            kind=Kind.MAINTENANCE if maintenance else Kind.SILENCE,
            start=begin,
            end=end,
            owner=owner or getpass.getuser(),
            reason=reason,
        )
    _say(f"{made.kind} {made.silence_id} holds from {_shown(made.start)} to {_shown(made.end)}")


@app.command("list")
def listed(ended: Annotated[bool, typer.Option("--all", help="those that are over too")] = False) -> None:
    """Silences that hold or will hold, newest first."""
    table = Table("id", "kind", "matchers", "from", "to", "owner", "reason")
    with opened() as silences:
        for each in silences.listed(ended=ended):
            table.add_row(
                str(each.silence_id),
                str(each.kind),
                " ".join(f"{name}={value}" for name, value in sorted(each.matchers.items())) or "everything",
                _shown(each.start),
                _shown(each.end),
                each.owner,
                each.reason,
            )
    console.print(table)


@app.command()
def end(silence_id: Annotated[int, typer.Argument(min=1, help="as `list` shows it")], reason: Reason) -> None:
    """End a silence now."""
    with opened() as silences:
        silences.end(silence_id, actor=getpass.getuser(), reason=reason)
    _say(f"silence {silence_id} is over")


def _matcher(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SilenceError(f"matchers: {text!r} is not label=value; labels are {', '.join(LABELS)}")
    return name, value


def _length(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if found is None:
        raise SilenceError(f"--for: {text!r} is no length; 30m, 4h and 7d are")
    return int(found[1]) * _UNITS[found[2]]


def _time(name: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise SilenceError(f"{name}: {text!r} is no time; 2026-11-01T06:00Z is one") from None


def _shown(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)

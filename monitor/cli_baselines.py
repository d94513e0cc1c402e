"""`fusionwatch-monitor baseline`: what the champion is compared with."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from monitor import wiring
from monitor.domain.window import Window
from monitor.errors import BaselineError
from monitor.tasks.baselines import Baselines
from monitor.terminal import console, read_settings

app = typer.Typer(no_args_is_help=True, help="Baselines of the champion, and which one it is compared with.")

Reason = Annotated[str, typer.Option(help="why; kept in the audit log")]
Number = Annotated[int, typer.Argument(min=1, help="the baseline's number, as `list` shows it")]


@contextmanager
def _baselines() -> Iterator[Baselines]:
    settings = read_settings()
    engine = wiring.connect_engine(settings, "fusionwatch-monitor")
    try:
        yield wiring.baselines(settings, engine)
    finally:
        engine.dispose()


@app.command("list")
def listed() -> None:
    """Baselines of every version of the model, the newest version first."""
    table = Table("version", "number", "origin", "use", "period", "accuracy", "thresholds", "made by", "made at")
    with _baselines() as baselines:
        for each in baselines.listed():
            accuracy = each.facts.get("accuracy")
            table.add_row(
                each.model_version,
                str(each.number),
                each.origin,
                "pinned" if each.pinned else "in use" if each.used else "",
                "" if each.period is None else f"{_time(each.period.start)} to {_time(each.period.end)}",
                "" if accuracy is None else f"{accuracy:.3f}",
                "learnt" if each.thresholds.get("effects") else "default",
                each.created_by,
                _time(each.created_at),
            )
    console.print(table)


@app.command()
def make(
    start: Annotated[str, typer.Option("--from", help="ISO 8601 with a time zone, as 2026-11-01T00:00Z")],
    end: Annotated[str, typer.Option("--to", help="the same; not included")],
    reason: Reason,
    pin: Annotated[bool, typer.Option(help="compare with it from now on")] = False,
    force: Annotated[bool, typer.Option(help="make it in spite of what speaks against it; audited")] = False,
) -> None:
    """Make a baseline of the champion from the traffic of a healthy period; from 7 days on, by hour of day too."""
    window = _window(start, end)
    with _baselines() as baselines:
        made = baselines.make(window, actor=getpass.getuser(), reason=reason, pin=pin, force=force)
    rows = ", ".join(f"{name} {n}" for name, n in sorted(made.rows.items()))
    hours = f"; {made.hours} hours of day" if made.hours else ""
    _say(f"baseline {made.number} of {made.version} is made{' and pinned' if pin else ''}: rows {rows}{hours}")
    _say(f"labels: {made.labels}")
    for each in made.overruled:
        _say(f"overruled: {each}")


@app.command()
def pin(number: Number, reason: Reason) -> None:
    """Compare the champion with this baseline from now on."""
    with _baselines() as baselines:
        version = baselines.pin(number, actor=getpass.getuser(), reason=reason)
    _say(f"{version} is compared with baseline {number}")


@app.command()
def unpin(reason: Reason) -> None:
    """Compare the champion with its first baseline again."""
    with _baselines() as baselines:
        number = baselines.unpin(actor=getpass.getuser(), reason=reason)
    _say(f"baseline {number} is no longer pinned")


@app.command()
def delete(number: Number, reason: Reason) -> None:
    """Delete a baseline; refused for the one in use and for the only one."""
    with _baselines() as baselines:
        baselines.drop(number, actor=getpass.getuser(), reason=reason)
    _say(f"baseline {number} is deleted")


@app.command()
def compare(number: Number, other: Number) -> None:
    """Run the detectors on one baseline beside another: what changed from the first to the second."""
    table = Table("detector", "modality", "verdict", "effect", "p", "explanation")
    with _baselines() as baselines:
        for each in baselines.compare(number, other):
            table.add_row(
                each.detector,
                each.modality,
                str(each.verdict),
                "" if each.effect is None else f"{each.effect:.3f}",
                "" if each.p_value is None else f"{each.p_value:.2g}",
                each.explanation,
            )
    console.print(table)


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def _window(start: str, end: str) -> Window:
    try:
        return Window(datetime.fromisoformat(start), datetime.fromisoformat(end))
    except ValueError as error:
        raise BaselineError(f"that is no period: {error}") from None

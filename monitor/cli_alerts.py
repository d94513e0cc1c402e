"""`fusionwatch-monitor alerts`: what fires, who looks after it, and who would be told of what."""

from __future__ import annotations

import getpass
from typing import Annotated, Literal

import typer
from rich.table import Table

from monitor import alert_wiring, wiring
from monitor.channels.base import Outcome
from monitor.cli_silences import opened
from monitor.errors import LabelError
from monitor.storage import alerts
from monitor.terminal import console, read_settings

app = typer.Typer(no_args_is_help=True, help="Alerts.")


@app.command("list")
def listed(limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many")] = 20) -> None:
    """Open and recent alerts, newest first."""
    settings = read_settings()
    table = Table("id", "state", "severity", "alert", "modality", "since", "inhibited by", "summary")
    engine = wiring.connect_engine(settings, "fusionwatch-monitor")
    try:
        with engine.connect() as connection:
            for row in alerts.newest(connection, settings.model, limit):
                table.add_row(
                    str(row.alert_id),
                    row.state,
                    row.severity,
                    row.alertname,
                    row.modality,
                    row.pending_since.isoformat(timespec="seconds"),
                    row.inhibited_by or "",
                    str(row.annotations.get("summary", "")),
                )
    finally:
        engine.dispose()
    console.print(table, markup=False)


@app.command()
def ack(alert_id: Annotated[int, typer.Argument(min=1, help="as `list` shows it")]) -> None:
    """Look after a firing alert: it is not repeated, and the audit log says who."""
    with opened() as silences:
        name = silences.acknowledge(alert_id, actor=getpass.getuser())
    console.print(f"{name} is yours", markup=False)


@app.command()
def explain(
    label: Annotated[list[str], typer.Option(help="name=value; alertname, modality, model_version or severity")],
) -> None:
    """Show which routes an alert with these labels takes, and which stage would stop it now, and why."""
    given = dict(_pair(each) for each in label)
    settings = read_settings()
    engine = wiring.connect_engine(settings, "fusionwatch-monitor")
    try:
        tracked, found = alert_wiring.explain(settings, engine).run(given)
    finally:
        engine.dispose()
    state = f"alert {tracked.alert_id}, {tracked.alert.state}" if tracked.alert_id else "no such alert is open"
    labels = " ".join(f"{name}={value}" for name, value in tracked.labels.items() if value)
    console.print(f"{labels}: {state}", markup=False, highlight=False, soft_wrap=True)
    table = Table("receiver", "route", "stopped by", "what happens now")
    for each in found:
        table.add_row(each.receiver, each.route, each.stage or "", each.reason)
    console.print(table, markup=False)


@app.command("test-fire")
def fire(
    receiver: Annotated[str, typer.Option(help="its name in the settings")],
    severity: Annotated[Literal["page", "ticket"], typer.Option(help="as what it is told")] = "page",
    resolve: Annotated[bool, typer.Option("--resolve", help="say that the test is over")] = False,
) -> None:
    """Send one receiver a message that says it is a test, past routes and stages, and show what came of it."""
    settings = read_settings()
    delivery = alert_wiring.receivers(settings).test(receiver, severity=severity, over=resolve)
    said = "sent" if delivery.outcome is Outcome.SENT else f"{delivery.outcome}: {delivery.reason}"
    console.print(f"{receiver}: {said}", markup=False, highlight=False, soft_wrap=True)
    if delivery.outcome is not Outcome.SENT:
        raise typer.Exit(1)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise LabelError(f"--label: {text!r} is not name=value, as modality=image is")
    return name, value

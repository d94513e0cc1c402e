"""The command `fusionwatch-monitor`."""

from __future__ import annotations

import json
import logging
import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy.exc import OperationalError

from migrations.connect import SchemaTooOldError, refused, require_revision
from monitor import (
    cli_alerts,
    cli_audit,
    cli_baselines,
    cli_champion,
    cli_dashboards,
    cli_history,
    cli_jobs,
    cli_labels,
    cli_policy,
    cli_reports,
    cli_silences,
    cli_storage,
    cli_tokens,
    comparison,
    telemetry,
    wiring,
)
from monitor.errors import MonitorError
from monitor.terminal import EXIT_SETTINGS, complaints, console, read_settings

EXIT_FAILED = 1

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Watches a fusion model: drift, alerts, retraining.")
app.add_typer(cli_alerts.app, name="alerts")
app.add_typer(cli_jobs.app, name="jobs")
app.add_typer(cli_baselines.app, name="baseline")
app.add_typer(cli_champion.app, name="champion")
app.add_typer(cli_dashboards.app, name="dashboards")
app.add_typer(cli_silences.app, name="silence")
app.add_typer(cli_policy.app, name="policy")
app.add_typer(cli_labels.app, name="labels")
app.add_typer(cli_tokens.app, name="tokens")
app.add_typer(cli_audit.app, name="audit")
app.add_typer(cli_audit.embeddings, name="embeddings")
app.command("history")(cli_history.history)
app.command("retention")(cli_storage.retention)
app.command("report")(cli_reports.report)
app.command("export")(cli_storage.export)
app.command("backfill")(cli_storage.backfill)


@app.command()
def run() -> None:
    """Run the monitor until SIGTERM or Ctrl-C: detect, alert, notify, retrain. Several may run; one leads."""
    settings = read_settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with closing(wiring.Monitor(settings)) as monitor:
        require_revision(monitor.engine)
        with telemetry.serve(monitor.metrics, monitor.not_ready, settings.monitor_host, settings.monitor_port) as port:
            logging.getLogger(__name__).info("metrics and health on http://%s:%d", settings.monitor_host, port)
            monitor.scheduler.run(stop)


@app.command()
def api() -> None:
    """Serve the API and the status page."""
    import uvicorn  # here, as `run` needs no web server

    settings = read_settings()
    engine = wiring.connect_engine(settings, "fusionwatch-api")
    require_revision(engine)
    try:
        uvicorn.run(
            wiring.api(settings, engine),
            host=settings.api_host,
            port=settings.api_port,
            log_level=settings.log_level.lower(),
            access_log=False,
        )
    finally:
        engine.dispose()


@app.command("check-settings")
def check_settings() -> None:
    """Check every setting and show what holds, secrets hidden."""
    settings = read_settings()
    table = Table("key", "value", show_header=True)
    for name in type(settings).model_fields:
        table.add_row(name, str(getattr(settings, name)))
    console.print(table)


@app.command()
def compare(
    reference: Annotated[Path, typer.Argument(help="rows to compare with: .npy, or .npz with image and text")],
    current: Annotated[Path, typer.Argument(help="rows to judge, in the same form")],
    detector: Annotated[str, typer.Option(help="a detector's name")] = "embedding_mmd",
    option: Annotated[list[str] | None, typer.Option(help="a detector's option, key=value; may be repeated")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compare two files of rows by one detector. Needs no settings and no database."""
    try:
        score = comparison.compare_files(detector, reference, current, option or ())
    except ValueError as error:
        complaints.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_SETTINGS) from None
    told = comparison.as_fields(detector, score)
    if as_json:
        typer.echo(json.dumps(told, indent=2, allow_nan=False))
        return
    table = Table("what", detector, show_header=True)
    for name, value in told.items():
        table.add_row(name, json.dumps(value) if isinstance(value, dict | list) else str(value))
    console.print(table)


def main() -> None:
    """Entry point: errors a person can act on are told without a traceback."""
    try:
        app()
    except (MonitorError, SchemaTooOldError, OSError) as error:
        complaints.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(EXIT_FAILED) from None
    except OperationalError as error:
        told = f"the database cannot be used: {refused(error) or error.orig}"
        complaints.print(told, style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(EXIT_FAILED) from None

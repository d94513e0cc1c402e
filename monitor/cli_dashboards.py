"""`fusionwatch-monitor dashboards`: Grafana's dashboards with this deployment's objectives, as files or pushed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migrations.settings import SettingsError
from monitor.dashboards import catalogue
from monitor.errors import GrafanaError
from monitor.grafana_settings import GrafanaSettings
from monitor.terminal import EXIT_SETTINGS, complaints, console

app = typer.Typer(no_args_is_help=True, help="Grafana's dashboards: executive, on call, debug.")


@app.command()
def push(
    insecure: Annotated[bool, typer.Option(help="allow http to another host: the token is sent in the clear")] = False,
) -> None:
    """Put the dashboards into the Grafana of FUSIONWATCH_GRAFANA_URL, by FUSIONWATCH_GRAFANA_TOKEN."""
    from monitor.dashboards.push import Grafana  # here, as no other command needs its HTTP client

    settings = _settings()
    if settings.grafana_url is None or settings.grafana_token is None:
        raise GrafanaError(
            "FUSIONWATCH_GRAFANA_URL and FUSIONWATCH_GRAFANA_TOKEN say where Grafana is and who pushes: a token of a "
            "service account with the role Editor"
        )
    grafana = Grafana(settings.grafana_url, settings.grafana_token.get_secret_value(), insecure=insecure)
    for pushed in grafana.push(catalogue.dashboards(settings.deployment), settings.grafana_folder):
        console.print(f"{pushed.uid}  {pushed.url}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def write(
    folder: Annotated[Path, typer.Argument(help="where to write them, one file each", file_okay=False, exists=True)],
    shipped: Annotated[bool, typer.Option(help="with the default objectives, as in the repository")] = False,
) -> None:
    """Write the dashboards as files, for Grafana's provisioning."""
    deployment = catalogue.SHIPPED if shipped else _settings().deployment
    for name, text in catalogue.files(deployment).items():
        (folder / name).write_text(text)
        console.print(str(folder / name), highlight=False, markup=False, soft_wrap=True)


def _settings() -> GrafanaSettings:
    try:
        return GrafanaSettings.from_environment()
    except SettingsError as error:
        complaints.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_SETTINGS) from None

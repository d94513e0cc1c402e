"""What the commands share: where they write, and how they begin."""

from __future__ import annotations

import logging
import sys

import typer
from rich.console import Console

from migrations.settings import SettingsError
from monitor.settings import MonitorSettings

EXIT_SETTINGS = 2

# Where it is read by a program or written to a file, a table must not be folded to the width of no terminal.
console = Console(width=None if sys.stdout.isatty() else 240)
complaints = Console(stderr=True)


def read_settings() -> MonitorSettings:
    """The settings, with logging as they say. Ends the command where one is missing or wrong."""
    try:
        settings = MonitorSettings.from_environment()
    except SettingsError as error:
        complaints.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_SETTINGS) from None
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    return settings

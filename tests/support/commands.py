"""The command `fusionwatch-monitor` run in this process."""

from __future__ import annotations

import logging

from typer.testing import CliRunner

from monitor.cli import app


def monitor_says(*words: str) -> str:
    """What the command says, and what it fails with, on one string. The log keeps going where it went."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        result = CliRunner().invoke(app, words)
    finally:
        root.handlers[:], root.level = handlers, level
    return f"{result.output}{result.exception or ''}"

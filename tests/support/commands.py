"""Commands run in this process."""

from __future__ import annotations

import io
import logging
import signal
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

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


def program_says(main: Callable[[], object], *words: str) -> str:
    """What a program of either package prints, from its entry point on; how it logs and is stopped is undone."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    root, printed = logging.getLogger(), io.StringIO()
    kept, level = list(root.handlers), root.level
    try:
        with mock.patch("sys.argv", ["program", *words]), redirect_stdout(printed), redirect_stderr(printed):
            main()
    except SystemExit:
        pass
    finally:
        root.handlers[:], root.level = kept, level
        for name, handler in handlers.items():
            signal.signal(name, handler)
    return printed.getvalue()

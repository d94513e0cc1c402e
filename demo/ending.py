"""How a story ends on a terminal: by itself, in a few words about what went wrong, or by Ctrl-C, all stopped."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from demo.processes import ProcessError
from demo.servers import ServerError

STOPPED = 130


@contextmanager
def ended_in_words(console: Console) -> Iterator[None]:
    """Exit 1 where a server or program fails, 130 where a person stops it: once, and all is stopped in order."""
    warnings.simplefilter("ignore")  # third parties' advice to their users
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        yield
    except (ServerError, ProcessError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("stopped")
        raise typer.Exit(STOPPED) from None


def _interrupt(*_: object) -> None:
    """Stop once: a second Ctrl-C must not cut short the stopping of programs and servers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt

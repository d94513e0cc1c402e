"""What a person watches while the story plays: steps, live figures, and the last things that happened."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

EVENTS_SHOWN = 8


class Mark(Enum):
    """A step's state, as it is drawn."""

    WAITING = ("○", "dim")
    PLAYING = ("▶", "bold cyan")
    DONE = ("✓", "bold green")
    FAILED = ("✗", "bold red")


@dataclass(slots=True)
class _Line:
    title: str
    mark: Mark = Mark.WAITING
    note: str = ""
    started: float | None = None
    seconds: float | None = None

    def elapsed(self) -> str:
        if self.started is None:
            return ""
        seconds = self.seconds if self.seconds is not None else time.monotonic() - self.started
        return f"{seconds:.0f} s"


@dataclass(slots=True)
class View:
    """Steps and events. On a terminal it is redrawn in place; elsewhere each event is a line."""

    console: Console
    figures: Callable[[], dict[str, str]] = field(default=dict)
    _lines: list[_Line] = field(default_factory=list, init=False)
    _events: deque[Text] = field(default_factory=lambda: deque(maxlen=EVENTS_SHOWN), init=False)
    _begun: float = field(default_factory=time.monotonic, init=False)

    def plan(self, titles: list[str]) -> None:
        """The steps to come."""
        self._lines = [_Line(title) for title in titles]

    def begin(self, number: int) -> None:
        """A step starts."""
        line = self._lines[number]
        line.mark, line.started = Mark.PLAYING, time.monotonic()
        self.say(line.title, "bold")

    def note(self, number: int, text: str) -> None:
        """What a step waits for at the moment."""
        self._lines[number].note = text

    def end(self, number: int, *, met: bool) -> None:
        """A step is over."""
        line = self._lines[number]
        line.mark, line.note = (Mark.DONE if met else Mark.FAILED), ""
        line.seconds = time.monotonic() - (line.started or time.monotonic())

    def say(self, text: str, style: str = "") -> None:
        """Something happened."""
        event = Text(f"{datetime.now(UTC):%H:%M:%S}  ", style="dim").append(text, style=style)
        self._events.append(event)
        if not self.console.is_terminal:
            self.console.print(event, soft_wrap=True)
            sys.stdout.flush()

    @contextmanager
    def live(self) -> Iterator[None]:
        """Redraw until left, where there is a terminal to draw on."""
        if not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=self._draw, console=self.console, refresh_per_second=2, redirect_stderr=False):
            yield

    def _draw(self) -> RenderableType:
        steps = Table.grid(padding=(0, 2))
        for line in self._lines:
            symbol, style = line.mark.value
            steps.add_row(
                Text(symbol, style), Text(line.title, style), Text(line.elapsed(), "dim"), Text(line.note, "dim")
            )
        figures = Table.grid(padding=(0, 3))
        values = self.figures()
        figures.add_row(*(Text(f"{name} ", "dim").append(value, "bold") for name, value in values.items()))
        minutes, seconds = divmod(int(time.monotonic() - self._begun), 60)
        head = Text("fusionwatch demo", "bold").append(f"   {minutes}:{seconds:02d}", "dim")
        return Group(head, Text(), steps, Text(), figures, Text(), *self._events)

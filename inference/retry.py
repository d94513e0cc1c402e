"""Trying again until an action succeeds or the program must stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from inference import log
from inference.backoff import delays
from inference.errors import StoppingError

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(slots=True)
class Stop:
    """A request to stop, and how long what is in hand may still take."""

    drain_seconds: float
    clock: Callable[[], float] = time.monotonic
    _event: threading.Event = field(default_factory=threading.Event)
    _since: float = 0.0

    def request(self) -> None:
        """Ask to stop; safe in a signal handler, and more than once."""
        if not self._event.is_set():
            self._since = self.clock()
            self._event.set()

    @property
    def requested(self) -> bool:
        """Whether to take nothing new."""
        return self._event.is_set()

    @property
    def overdue(self) -> bool:
        """Whether what is in hand must be left: it is done again after the next start."""
        return self.requested and self.clock() > self._since + self.drain_seconds

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until a stop is requested (then briefly, so that nothing spins)."""
        if self._event.wait(seconds):
            time.sleep(min(seconds, 0.05))


def until_done(
    action: Callable[[], Result],
    *,
    name: str,
    on: tuple[type[Exception], ...],
    stop: Stop,
    between: Callable[[], None] = lambda: None,
    failed: Callable[[str], None] = lambda _: None,
) -> Result:
    """The action's result, however often it must be tried; only exceptions of `on` are tried again.

    `between` runs before each wait of at most a second, `failed` once for each failure. Raises StoppingError where the
    drain deadline passes first.
    """
    for delay in delays():
        try:
            return action()
        except on as error:
            failed(name)
            _log.warning("%s failed, trying again", name, extra=log.fields(error=type(error).__name__, seconds=delay))
        left = delay
        while left > 0:
            if stop.overdue:
                raise StoppingError(f"{name} still failed at the drain deadline")
            between()
            stop.wait(min(left, 1.0))
            left -= 1.0
    raise AssertionError("delays never end")

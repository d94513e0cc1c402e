"""The loops of one program: where one breaks, all end, so that a supervisor starts a sound process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from inference.errors import StoppingError
from inference.pulse import Pulse
from inference.retry import Stop

_log = logging.getLogger(__name__)


class Loops:
    """Runs loops that all end when `stop` is requested. `failure` says which one broke, None while none did."""

    def __init__(self, stop: Stop, liveness_seconds: float) -> None:
        """A loop that has a pulse and does not come round for `liveness_seconds` is a `problem`."""
        self._stop = stop
        self._liveness_seconds = liveness_seconds
        self._threads: list[threading.Thread] = []
        self._pulses: dict[str, Pulse] = {}
        self.failure: str | None = None

    def pulse(self, name: str) -> Pulse:
        """What the loop of that name beats."""
        return self._pulses.setdefault(name, Pulse(name, self._liveness_seconds))

    @property
    def problem(self) -> str | None:
        """Why this process should be started again: a loop broke or hangs. None where all is well."""
        return self.failure or next((found for pulse in self._pulses.values() if (found := pulse.problem)), None)

    def start(self, name: str, run: Callable[[], None]) -> None:
        """Run a loop in a thread of its own."""
        thread = threading.Thread(target=self.run, args=(name, run), name=name)
        self._threads.append(thread)
        thread.start()

    def run(self, name: str, run: Callable[[], None]) -> None:
        """Run a loop in the calling thread; whichever way it ends, a stop is requested."""
        try:
            run()
        except StoppingError as error:
            _log.warning("%s: left what was in hand: %s", name, error)
        except Exception:  # noqa: BLE001  # a thread's edge: log it, report it to the probes, end the process
            _log.exception("%s ended by an error", name)
            self.failure = f"{name} ended by an error"
        finally:
            self.pulse(name).end()
            self._stop.request()

    def join(self, seconds: float) -> None:
        """Wait for the threads, at most so long for each."""
        for thread in self._threads:
            thread.join(timeout=seconds)

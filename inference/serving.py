"""The model that answers, and its replacement by another while requests go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from inference import log
from inference.baseline import FILE as BASELINE_FILE
from inference.baseline import Baseline
from inference.model_io import ModelOptions
from inference.model_process import ModelProcess
from inference.models.card import ModelCard, load_card
from inference.observe import Observer
from inference.registry import Champion
from inference.retry import Stop

_log = logging.getLogger(__name__)
# A refused candidate is looked at again: its folder may have been half copied.
REFUSED_SECONDS = 60.0
UNDER_WAY_SECONDS = 60.0  # longer than any batch that was handed to a challenger is waited for


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """One version in use: its card, its baseline (None: it has none) and the process that runs it."""

    card: ModelCard
    baseline: Baseline | None
    model: ModelProcess

    def close(self) -> None:
        """End the model process, once its outstanding outputs are collected."""
        self.model.close()


def load(folder: Path, options: ModelOptions) -> Serving:
    """Check the checkpoint in a folder, and start a process that has loaded it and warmed it up.

    Raises CheckpointError, BaselineError, or RuntimeError where the model does not answer a blank input.
    """
    card = load_card(folder)
    baseline = Baseline.load(folder) if (folder / BASELINE_FILE).exists() else None
    if baseline is None:
        _log.warning("the checkpoint has no baseline: drift cannot be told", extra=log.fields(folder=str(folder)))
    model = ModelProcess(folder, options)
    model.start()
    return Serving(card, baseline, model)


Guest = TypeVar("Guest")


class ModelHolder(Generic[Guest]):
    """Holds the version in use. Reading and replacing are single assignments: no lock, no request waits.

    `canary` is the challenger that answers a share of the requests, None where there is none; `broken` says why it was
    given up, by who noticed.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._canary: Guest | None = None
        self.broken: str | None = None

    @property
    def canary(self) -> Guest | None:
        """The challenger in canary."""
        return self._canary

    @canary.setter
    def canary(self, guest: Guest | None) -> None:
        self.broken = None
        self._canary = guest

    def uses(self, serving: Serving) -> bool:
        """Whether batches of a version may still come."""
        return serving is self._serving or serving is getattr(self._canary, "serving", None)

    def give_up(self, guest: Guest, why: str) -> None:
        """Send nothing more to a challenger that failed: the champion answers everything again."""
        if self._canary is guest:
            self._canary = None
            self.broken = why

    @property
    def current(self) -> Serving:
        """The version in use."""
        return self._serving

    def replace(self, serving: Serving) -> None:
        """Use another version from the next batch on. Whoever waits for the old one's outputs closes it after them."""
        self._serving = serving


class Versions:
    """Loaded versions that nobody uses now: the former champion, ready to answer again, for as long as it is kept.

    A version that a canary has loaded is taken over as it is when it becomes champion.
    """

    def __init__(self, load: Callable[[Path], Serving], seconds: float) -> None:
        """`seconds` is how long a version is kept; 0 closes it at once."""
        self._load = load
        self._seconds = seconds
        self._lock = threading.Lock()
        self._spare: dict[Path, tuple[Serving, float]] = {}
        self._shared: dict[Path, Serving] = {}

    def load(self, folder: Path) -> Serving:
        """The version in a folder: one that is loaded already, else as `load` does. Raises as that does."""
        known = folder.resolve()
        with self._lock:
            shared = self._shared.get(known)
            if shared is None and known in self._spare:
                shared = self._spare.pop(known)[0]
        return shared if shared is not None and shared.model.alive else self._load(folder)

    def share(self, folder: Path) -> Serving:
        """The same, for a challenger: while it is one, the champion may be it too."""
        serving = self.load(folder)
        with self._lock:
            self._shared[folder.resolve()] = serving
        return serving

    def dropped(self, serving: Serving, in_use: Callable[[Serving], bool]) -> None:
        """The challenger is no longer one. It is kept for a while: batches under way may still need it."""
        with self._lock:
            self._shared = {folder: each for folder, each in self._shared.items() if each is not serving}
        self._keep(serving, in_use, max(self._seconds, UNDER_WAY_SECONDS))

    def released(self, serving: Serving, in_use: Callable[[Serving], bool]) -> None:
        """No batch of a version is left. One that is not `in_use` is kept for a while, then closed."""
        self._keep(serving, in_use, self._seconds)
        self.expire()

    def _keep(self, serving: Serving, in_use: Callable[[Serving], bool], seconds: float) -> None:
        with self._lock:
            if in_use(serving) or any(serving is shared for shared in self._shared.values()):
                return
            folder = serving.card.folder.resolve()
            before = self._spare.pop(folder, None)
            self._spare[folder] = (serving, time.monotonic() + seconds)
        if before is not None and before[0] is not serving:
            before[0].close()

    def expire(self) -> None:
        """Close what was kept for long enough."""
        now = time.monotonic()
        with self._lock:
            over = [folder for folder, (_, until) in self._spare.items() if until <= now]
            closing = [self._spare.pop(folder)[0] for folder in over]
        for serving in closing:
            serving.close()

    def close(self) -> None:
        """Close all that is kept."""
        with self._lock:
            left = [*(serving for serving, _ in self._spare.values()), *self._shared.values()]
            self._spare, self._shared = {}, {}
        for serving in left:
            serving.close()


class ChampionWatcher:
    """Follows the champion alias: loads a new champion beside the old one, then swaps. Runs in a thread of its own."""

    def __init__(
        self,
        *,
        holder: ModelHolder[Any],
        champion: Callable[[], Champion | None],
        load: Callable[[Path], Serving],
        prepare: Callable[[Serving], None],
        observer: Observer,
        stop: Stop,
        seconds: float,
    ) -> None:
        """`prepare` is called with a loaded version before it is used."""
        self._holder = holder
        self._champion = champion
        self._load = load
        self._prepare = prepare
        self._observer = observer
        self._stop = stop
        self._seconds = seconds
        self._refused: dict[str, float] = {}

    def run(self) -> None:
        """Watch until a stop is requested."""
        while not self._stop.requested:
            self.check()
            self._stop.wait(self._seconds)

    def check(self) -> None:
        """Look once; a version that cannot be used is refused, and the one in use goes on."""
        try:
            wanted = self._champion()
        except SQLAlchemyError as error:
            _log.warning("the champion cannot be read", extra=log.fields(error=type(error).__name__))
            return
        if wanted is None or wanted.version == self._holder.current.card.version:
            return
        if time.monotonic() < self._refused.get(wanted.version, 0.0):
            return
        try:
            serving = self._usable(wanted)
        except Exception as error:  # noqa: BLE001  # an edge: a broken candidate must never stop the one that serves
            self._refused[wanted.version] = time.monotonic() + REFUSED_SECONDS
            self._observer.reloaded("refused")
            reason = f"{type(error).__name__}: {error}"
            _log.error("champion refused", extra=log.fields(version=wanted.version, reason=reason))
            return
        self._holder.replace(serving)
        self._observer.reloaded("swapped")
        _log.info("champion swapped", extra=log.fields(version=wanted.version))

    def _usable(self, wanted: Champion) -> Serving:
        serving = self._load(wanted.folder)
        try:
            if serving.card.version != wanted.version:
                raise ValueError(f"the folder holds version {serving.card.version}")
            self._prepare(serving)
        except Exception:
            serving.close()
            raise
        return serving

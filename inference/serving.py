"""The model that answers, and its replacement by another while requests go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


class ModelHolder:
    """Holds the version in use. Reading and replacing are single assignments: no lock, no request waits."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    @property
    def current(self) -> Serving:
        """The version in use."""
        return self._serving

    def replace(self, serving: Serving) -> None:
        """Use another version from the next batch on. Whoever waits for the old one's outputs closes it after them."""
        self._serving = serving


class ChampionWatcher:
    """Follows the champion alias: loads a new champion beside the old one, then swaps. Runs in a thread of its own."""

    def __init__(
        self,
        *,
        holder: ModelHolder,
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

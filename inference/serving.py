"""The model that answers, and its replacement by another while requests go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from sqlalchemy.exc import SQLAlchemyError

from inference import log
from inference.baseline import FILE as BASELINE_FILE
from inference.baseline import Baseline
from inference.modalities.base import modalities
from inference.models.checkpoint import Checkpoint, load_checkpoint
from inference.models.registry import families
from inference.observe import Observer
from inference.predictor import Predictor
from inference.registry import Champion, family_of
from inference.retry import Stop

_log = logging.getLogger(__name__)
# A refused candidate is looked at again: its folder may have been half copied.
REFUSED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Serving:
    """One loaded version: its checkpoint, its baseline (None: it has none) and the predictor that runs it."""

    checkpoint: Checkpoint
    baseline: Baseline | None
    predictor: Predictor


def load(folder: Path, device: torch.device) -> Serving:
    """Load, check and warm up the checkpoint in a folder.

    Raises CheckpointError, BaselineError, or RuntimeError where the model does not answer a blank input.
    """
    checkpoint = load_checkpoint(folder, device)
    encoders = families()[family_of(checkpoint)].encoders
    predictor = Predictor(checkpoint, modalities(), encoders, device)
    predictor.warm_up()
    baseline = Baseline.load(folder) if (folder / BASELINE_FILE).exists() else None
    if baseline is None:
        _log.warning("the checkpoint has no baseline: drift cannot be told", extra=log.fields(folder=str(folder)))
    return Serving(checkpoint, baseline, predictor)


class ModelHolder:
    """Holds the version in use. Reading and replacing are single assignments: no lock, no request waits."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    @property
    def serving(self) -> Serving:
        """The version in use."""
        return self._serving

    def predictor(self) -> Predictor:
        """Its predictor."""
        return self._serving.predictor

    def replace(self, serving: Serving) -> None:
        """Use another version from the next batch on."""
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
        if wanted is None or wanted.version == self._holder.serving.checkpoint.version:
            return
        if time.monotonic() < self._refused.get(wanted.version, 0.0):
            return
        try:
            serving = self._load(wanted.folder)
            if serving.checkpoint.version != wanted.version:
                raise ValueError(f"the folder holds version {serving.checkpoint.version}")
            self._prepare(serving)
        except Exception as error:  # noqa: BLE001  # an edge: a broken candidate must never stop the one that serves
            self._refused[wanted.version] = time.monotonic() + REFUSED_SECONDS
            self._observer.reloaded("refused")
            reason = f"{type(error).__name__}: {error}"
            _log.error("champion refused", extra=log.fields(version=wanted.version, reason=reason))
            return
        self._holder.replace(serving)
        self._observer.reloaded("swapped")
        _log.info("champion swapped", extra=log.fields(version=wanted.version))

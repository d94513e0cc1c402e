"""The challenger beside the champion: which requests it gets, and the watcher that loads it and lets it go."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from inference import log
from inference.models.card import PROCESSOR, TOKENIZER, TOKENIZER_CONFIG, ModelCard
from inference.observe import Observer
from inference.retry import Stop
from inference.rollouts import FAILED, READY, REFUSED, Rollout
from inference.serving import REFUSED_SECONDS, ModelHolder, Serving, Versions
from inference.shadow import Shadow
from migrations.schema.rollouts import CANARY

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """A challenger in use. The same requests are its own in every worker, and stay so when the share grows."""

    serving: Serving
    rollout_id: int
    share: float

    def takes(self, request_id: str) -> bool:
        """Whether a request is one of its share, by a stable hash of rollout and request id."""
        digest = hashlib.blake2b(f"{self.rollout_id}\0{request_id}".encode("utf-8", "surrogatepass"), digest_size=8)
        return int.from_bytes(digest.digest(), "big") < self.share * 2.0**64


def different_inputs(champion: ModelCard, challenger: ModelCard) -> str | None:
    """Why what was prepared for the one cannot be given to the other; None where it can."""
    for name in ("labels", "modalities", "raw"):
        if getattr(champion, name) != getattr(challenger, name):
            return f"its {name} are not the champion's"
    for file in () if champion.raw else (PROCESSOR, TOKENIZER, TOKENIZER_CONFIG):
        one, other = ((card.folder / file).read_bytes() for card in (champion, challenger))
        if one != other:
            return f"its {file} is not the champion's: what is prepared for one cannot be given to the other"
    return None


class RolloutWatcher:
    """Follows the open rollout: loads its challenger beside the champion, then gives it its share. A thread's work.

    In canary the challenger answers its share, in shadow it runs behind the champion's back. Not in both at once: a
    model process takes batches from one side only.
    """

    def __init__(
        self,
        *,
        holder: ModelHolder[Arm],
        versions: Versions,
        shadow: Shadow,
        rollout: Callable[[], Rollout | None],
        load: Callable[[Path], Serving],
        prepare: Callable[[Serving], None],
        report: Callable[[int, str, str], None],
        observer: Observer,
        stop: Stop,
        seconds: float,
    ) -> None:
        """`report` keeps (rollout id, state, detail) in the database."""
        self._holder = holder
        self._versions = versions
        self._shadow = shadow
        self._rollout = rollout
        self._load = load
        self._prepare = prepare
        self._report = report
        self._observer = observer
        self._stop = stop
        self._seconds = seconds
        self._arm: Arm | None = None
        self._refused: dict[int, float] = {}

    def run(self) -> None:
        """Watch until a stop is requested."""
        while not self._stop.requested:
            try:
                self.check()
            except SQLAlchemyError as error:
                _log.warning("the rollout cannot be followed", extra=log.fields(error=type(error).__name__))
            self._stop.wait(self._seconds)

    def check(self) -> None:
        """Look once. Raises SQLAlchemyError; a challenger that cannot be used is refused, and the champion goes on."""
        wanted = self._rollout()
        self._versions.expire()
        arm = self._arm
        if arm is not None and (broken := self._holder.broken or self._shadow.broken) is not None:
            self._report(arm.rollout_id, FAILED, broken)
            self._refused[arm.rollout_id] = time.monotonic() + REFUSED_SECONDS
            self._drop()
        elif arm is not None and (wanted is None or wanted.rollout_id != arm.rollout_id):
            self._drop()
        if wanted is None or time.monotonic() < self._refused.get(wanted.rollout_id, 0.0):
            return
        if wanted.version == self._holder.current.card.version:
            return  # promoted; the row that says so is on its way
        if self._arm is None and (arm := self._usable(wanted)) is None:
            return
        self._give(wanted)

    def _give(self, wanted: Rollout) -> None:
        """Give the challenger its share, in canary or in shadow."""
        assert self._arm is not None
        if self._arm.share != wanted.share:
            self._arm = Arm(self._arm.serving, wanted.rollout_id, wanted.share)
        in_canary = wanted.stage == CANARY
        self._shadow.use(None if in_canary else self._arm)
        if in_canary and self._holder.canary is not self._arm and self._holder.broken is None:
            self._holder.canary = self._arm

    def _drop(self) -> None:
        arm, self._arm = self._arm, None
        self._holder.canary = None
        self._shadow.use(None)
        if arm is not None:
            self._versions.dropped(arm.serving, self._holder.uses)

    def _usable(self, wanted: Rollout) -> Arm | None:
        """Load and check the challenger; None, with a report, where it cannot be used."""
        serving: Serving | None = None
        try:
            serving = self._load(wanted.folder)
            why = different_inputs(self._holder.current.card, serving.card)
            if serving.card.version != wanted.version:
                why = f"the folder holds version {serving.card.version}"
            if why is not None:
                raise ValueError(why)
            self._prepare(serving)
        except Exception as error:  # noqa: BLE001  # an edge: a broken challenger must never stop the champion
            if serving is not None:
                self._versions.dropped(serving, self._holder.uses)
            self._refused[wanted.rollout_id] = time.monotonic() + REFUSED_SECONDS
            self._observer.reloaded("refused")
            reason = f"{type(error).__name__}: {error}"
            _log.error("challenger refused", extra=log.fields(version=wanted.version, reason=reason))
            self._report(wanted.rollout_id, REFUSED, reason)
            return None
        self._report(wanted.rollout_id, READY, "")
        _log.info("challenger loaded", extra=log.fields(version=wanted.version, stage=wanted.stage))
        self._arm = Arm(serving, wanted.rollout_id, wanted.share)
        return self._arm

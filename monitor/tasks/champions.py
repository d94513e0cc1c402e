"""What people do with the champion: promote a version by hand, and take a promotion back."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from monitor.domain.clock import Clock
from monitor.errors import PromotionError
from monitor.storage import models, rollouts


@dataclass(frozen=True, slots=True)
class Moved:
    """The champion before and after."""

    before: str
    after: str


class Champions:
    """Each change is one transaction: the alias by compare-and-set, and its row in the audit log."""

    def __init__(self, engine: Engine, model: str, clock: Clock) -> None:
        self._engine = engine
        self._model = model
        self._clock = clock

    def promote(self, version: str, *, actor: str, reason: str) -> Moved:
        """Make a registered version champion, past gate and canary.

        Raises PromotionError where it cannot be, or where the champion changed meanwhile; NoChampionError.
        """
        with self._engine.connect() as connection:
            champion = models.champion(connection, self._model).version
            known = models.versions(connection, self._model)
        if version not in known:
            raise PromotionError(f"model {self._model!r} has no version {version!r}; it has {', '.join(sorted(known))}")
        if version == champion:
            raise PromotionError(f"{version} is champion already")
        return self._move(champion, version, models.PROMOTED, actor, reason)

    def roll_back(self, *, actor: str, reason: str) -> Moved:
        """Make the version champion that the present one took the place of. Raises as `promote` does."""
        with self._engine.connect() as connection:
            champion = models.champion(connection, self._model).version
            former = models.former_champion(connection, self._model, champion)
        if former is None:
            raise PromotionError(f"{champion} was never promoted in place of another: there is nothing to roll back to")
        return self._move(champion, former, models.ROLLED_BACK, actor, reason)

    def _move(self, champion: str, version: str, action: str, actor: str, reason: str) -> Moved:
        with self._engine.begin() as connection:
            rollout = rollouts.open_one(connection, self._model)
            if rollout is not None:
                raise PromotionError(
                    f"{rollout.version} is in {rollout.place.stage}: end that first, by `champion stop --reason ...`"
                )
            if not models.has_baseline(connection, version):
                raise PromotionError(f"{version} has no baseline of its own: its drift could not be told")
            moved = models.promote(
                connection,
                self._model,
                expected=champion,
                version=version,
                actor=actor,
                details={"reason": reason},
                now=self._clock.now(),
                action=action,
            )
        if not moved:
            raise PromotionError(f"{champion} is no longer champion: someone else was faster; nothing was changed")
        return Moved(champion, version)

"""What people say of alerts: not now, enough of that, I look after it. Each is one transaction with its audit row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Engine

from monitor.domain.clock import Clock
from monitor.domain.silence import Draft, Kind, Silence
from monitor.storage import silences


class Silences:
    """Silences, maintenance windows and acknowledgements of one model."""

    def __init__(self, engine: Engine, model: str, clock: Clock) -> None:
        self._engine = engine
        self._model = model
        self._clock = clock

    def now(self) -> datetime:
        """The time by which silences start and end."""
        return self._clock.now()

    def add(
        self,
        matchers: Mapping[str, str],
        *,
        kind: Kind,
        start: datetime | None,
        end: datetime,
        owner: str,
        reason: str,
        actor: str | None = None,
    ) -> Silence:
        """Silence from `start`, by default from now, until `end`; `actor` is who asked, by default the owner.

        Raises SilenceError with what is wrong.
        """
        now = self._clock.now()
        draft = Draft(kind, matchers, start or now, end, owner, reason)
        draft.check(now)
        with self._engine.begin() as connection:
            return silences.create(connection, self._model, draft, now, actor)

    def end(self, silence_id: int, *, actor: str, reason: str) -> Silence:
        """End a silence early. Raises SilenceError where there is none, or it is over."""
        with self._engine.begin() as connection:
            return silences.end(connection, self._model, silence_id, actor=actor, reason=reason, now=self._clock.now())

    def listed(self, *, ended: bool = False, before: int | None = None, limit: int | None = None) -> Sequence[Silence]:
        """Silences that hold or will hold, newest first; with `ended` those that are over too.

        `before` and `limit` are for pages: numbers below that one, and how many at most.
        """
        now = self._clock.now()
        with self._engine.connect() as connection:
            return silences.listed(connection, self._model, now, ended=ended, before=before, limit=limit)

    def acknowledge(self, alert_id: int, *, actor: str, owner: str | None = None) -> str:
        """Let `owner`, by default the actor, look after a firing alert: it is not repeated; its name.

        Raises SilenceError where it does not fire.
        """
        with self._engine.begin() as connection:
            return silences.acknowledge(
                connection, self._model, alert_id, owner=owner or actor, actor=actor, now=self._clock.now()
            )

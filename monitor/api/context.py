"""What every handler needs, put together once by the app's factory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from sqlalchemy import Connection, Engine

from monitor.api.access import Access
from monitor.api.gateway import Gateway
from monitor.domain.clock import Clock
from monitor.storage.views.calibration import calibration
from monitor.storage.views.findings import newest_checks
from monitor.storage.views.models.base import Period, Timing, VerdictName
from monitor.storage.views.models.findings import Calibration
from monitor.storage.views.models.overview import Facts, Overview
from monitor.storage.views.overview import facts
from monitor.storage.views.reading import reading
from monitor.storage.views.work import champion
from monitor.tasks.baselines import Baselines
from monitor.tasks.champions import Champions
from monitor.tasks.jobs import Cancelling
from monitor.tasks.policy import Policy
from monitor.tasks.receivers import Receivers
from monitor.tasks.rollouts import Rollouts
from monitor.tasks.silences import Silences
from monitor.web.sentence import describe

MAX_MINUTES = 7 * 24 * 60
MAX_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Targets:
    """What the model is held to: shares present and calibration error in [0, 1].

    A verdict on calibration takes `minimum_labels`, received within `label_minutes`. `trends` are detectors with the
    most that their value may be, None where it is only followed.
    """

    availability: float = 0.99
    calibration_error: float = 0.05
    minimum_labels: int = 500
    label_minutes: int = 1440
    trends: Mapping[str, float | None] = field(default_factory=lambda: {"calibration": 0.05})


@dataclass(frozen=True, slots=True)
class Context:
    """The app's collaborators, and what it shows: one model, judged in the windows that `timing` says.

    `access` says who may read and write.
    """

    engine: Engine
    model: str
    timing: Timing
    targets: Targets
    clock: Clock
    version: str
    silences: Silences
    cancelling: Cancelling
    receivers: Receivers
    champions: Champions
    baselines: Baselines
    access: Access
    policy: Policy | None = None
    rollouts: Rollouts | None = None
    gateway: Gateway | None = None

    def period(self, minutes: int) -> Period:
        """The minutes that end now."""
        now = self.clock.now()
        return Period(start=now - timedelta(minutes=minutes), end=now)

    def aligned(self, minutes: int) -> Period:
        """The minutes that end at the end of the running slot, so that buckets hold whole slots."""
        slot = self.timing.slot_seconds
        end = datetime.fromtimestamp((int(self.clock.now().timestamp()) // slot + 1) * slot, UTC)
        return Period(start=end - timedelta(minutes=minutes), end=end)

    def facts(self, connection: Connection) -> Facts:
        """The facts of this moment."""
        return facts(connection, self.model, self.clock.now(), self.timing)

    def overview(self, connection: Connection) -> Overview:
        """The facts and the sentence made from them."""
        found = self.facts(connection)
        return Overview(**dict(found), sentence=describe(found))

    def calibration(self, connection: Connection, minutes: int) -> Calibration:
        """Confidence against truth of the champion over labels received in the minutes that end now."""
        version = champion(connection, self.model)
        return calibration(
            connection,
            version.version if version else None,
            self.period(minutes),
            target=self.targets.calibration_error,
            minimum_labels=self.targets.minimum_labels,
            judged=self._judged_calibration(connection, version.version if version else None),
        )

    def _judged_calibration(self, connection: Connection, version: str | None) -> VerdictName:
        checks = newest_checks(connection, self.model, self.clock.now(), timedelta(days=1), "calibration")
        verdicts = [each.verdict for each in checks if each.model_version == version]
        return next((name for name in ("drift", "ok", "insufficient", "no_baseline") if name in verdicts), "no_data")


def _context(request: Request) -> Context:
    context: Any = request.app.state.context
    assert isinstance(context, Context)
    return context


def _connection(context: Annotated[Context, Depends(_context)]) -> Iterator[Connection]:
    with reading(context.engine) as connection:
        yield connection


Shown = Annotated[Context, Depends(_context)]
Reading = Annotated[Connection, Depends(_connection)]
Minutes = Annotated[int, Query(ge=1, le=MAX_MINUTES, description="how far back to look", examples=[60])]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="items in a page", examples=[50])]
Cursor = Annotated[int | None, Query(ge=1, le=2**63 - 1, description="`next_cursor` of the page before")]
Name = Annotated[str | None, Query(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+:. -]+$")]

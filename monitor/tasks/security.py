"""Watches what must not happen: a row missing from the audit log, and embeddings read as they never were."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine

from monitor.alerts.names import ALL, SECURITY
from monitor.domain.audit import HOUR, Head, unusual
from monitor.domain.clock import Clock
from monitor.domain.finding import Verdict
from monitor.domain.window import Window
from monitor.errors import NoChampionError
from monitor.storage import audit, findings, models
from monitor.storage.notifications import Entry
from monitor.tasks.alerting import Alerting, Judged, count_decisions
from monitor.tasks.watches import plain, set_back
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)


class Security:
    """The task. It remembers the newest row that it has seen, so that a log which is linked anew shows too."""

    def __init__(
        self, engine: Engine, model: str, *, reads_per_hour: int, alerting: Alerting, metrics: Metrics, clock: Clock
    ) -> None:
        """More than `reads_per_hour` reads of embeddings by one login are unusual."""
        self._engine = engine
        self._model = model
        self._reads_per_hour = reads_per_hour
        self._alerting = alerting
        self._metrics = metrics
        self._clock = clock
        self._seen: Head | None = None
        self._told: tuple[str, ...] = ()

    def run(self) -> None:
        """Look once. What is wrong is told when it changes, and is over when it no longer holds."""
        now = self._clock.now()
        with self._engine.begin() as connection:
            checked = audit.verify(connection, self._seen)
            broken = [f"The audit log was tampered with: {each}" for each in checked.breaks]
            events = (*broken, *unusual(audit.readers(connection, now), self._reads_per_hour))
            decided = self._tell(connection, events, checked.rows, now)
        if not checked.breaks and checked.last != self._seen:
            # outside the database it cannot be changed together with the log
            _log.info("the audit log holds up to %s", checked.last)
            self._seen = checked.last
        for event in set(events) - set(self._told):
            _log.error("%s", event)
        self._told = events
        count_decisions(self._metrics, decided)

    def _tell(self, connection: Connection, events: Sequence[str], rows: int, now: datetime) -> list[Entry]:
        findings.lock(connection, self._model)
        last = findings.last(connection, self._model, SECURITY, ALL)
        over = not events and last is not None and last[1] is Verdict.DRIFT
        if set_back(last, now) or not (over or (events and tuple(events) != self._told)):
            return []
        try:
            version = models.champion(connection, self._model).version
        except NoChampionError:
            version = ""
        finding = plain(
            SECURITY,
            Window(now - HOUR, now),
            Verdict.DRIFT if events else Verdict.OK,
            version,
            "; ".join(events) + "." if events else f"The audit log holds over {rows} rows; no read is unusual.",
            value=len(events),
            threshold=0,
            n_current=rows,
            details={"events": list(events)},
        )
        ids = findings.store(connection, self._model, [finding])
        judged = [Judged(finding_id, finding) for finding_id in ids]
        return self._alerting.apply(connection, judged, now, now)

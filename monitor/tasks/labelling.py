"""Asks people for labels where a retrain waits for them: draws a round of answers and opens a ticket about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.alerts.names import ALL, LABELS_WANTED
from monitor.domain.finding import Finding, Verdict
from monitor.domain.job import Condition
from monitor.domain.label_queue import FEWEST_ENTRIES, draw, region, seed_of
from monitor.domain.window import Window
from monitor.storage import findings, label_queue
from monitor.storage.label_queue import Asked, Frame
from monitor.tasks import watches
from monitor.tasks.alerting import Alerting, Judged, count_decisions
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

# Candidates that are read at once: some megabytes, and a second of the database at most.
MOST_CANDIDATES = 50_000


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """At most `entries` wait at a time, 0 for none, of answers no older than `frame`, each for as long as `lasts`."""

    entries: int
    frame: timedelta
    lasts: timedelta


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why labels are needed: how many each class lacks and "" in all, the drift they are about, and the conditions."""

    labels: Mapping[str, int]
    drifting: Sequence[Finding]
    conditions: Sequence[Condition]


class Labelling:
    """The label queue of one model."""

    def __init__(self, model: str, limits: QueueLimits, alerting: Alerting, metrics: Metrics) -> None:
        self._model = model
        self._limits = limits
        self._alerting = alerting
        self._metrics = metrics

    def run(self, connection: Connection, model_version: str, shortage: Shortage | None, now: datetime) -> None:
        """Draw a round where labels are short and none is open, and move the ticket, in the caller's transaction."""
        findings.lock(connection, self._model)  # two monitors take turns
        label_queue.forget(connection, self._model, now)
        asked = label_queue.newest_round(connection, self._model, model_version)
        if shortage is not None and self._limits.entries and not _open(asked, now):
            asked = self._draw(connection, model_version, shortage, asked, now) or asked
        self._tell(connection, model_version, asked, now)

    def _draw(
        self, connection: Connection, version: str, shortage: Shortage, before: Asked | None, now: datetime
    ) -> Asked | None:
        wanted = min(self._limits.entries, max(FEWEST_ENTRIES, shortage.labels[""]))
        oldest = now - self._limits.frame
        start = oldest if before is None else max(oldest, before.frame_end)
        frame = label_queue.frame(connection, version, start, now, MOST_CANDIDATES)
        # The few answers since the last round are left to become more, unless more never come.
        enough = FEWEST_ENTRIES if start == oldest else wanted
        if len(frame.candidates) < enough:
            return None
        self._store(connection, version, shortage, frame, wanted, now)
        return label_queue.newest_round(connection, self._model, version)

    def _store(
        self, connection: Connection, version: str, shortage: Shortage, frame: Frame, wanted: int, now: datetime
    ) -> None:
        seed = seed_of(self._model, version, frame.end)
        short = [name for name in shortage.labels if name]
        drawn = draw(frame.candidates, wanted, seed=seed, where=region(shortage.drifting), short_classes=short)
        round_id = label_queue.store(
            connection,
            self._model,
            version,
            drawn,
            of=frame,
            seed=seed,
            reasons=[condition.text for condition in shortage.conditions],
            now=now,
            expires_at=now + self._limits.lasts,
        )
        _log.info("round %d asks for %d labels", round_id, len(drawn.entries))

    def _tell(self, connection: Connection, version: str, asked: Asked | None, now: datetime) -> None:
        last = findings.last(connection, self._model, LABELS_WANTED, ALL)
        verdict = Verdict.DRIFT if _open(asked, now) else Verdict.OK
        if verdict is (Verdict.OK if last is None else last[1]) or watches.set_back(last, now):
            return
        found = watches.plain(
            LABELS_WANTED,
            Window(now - self._limits.frame, now),
            verdict,
            version,
            _words(asked, verdict),
            value=0 if asked is None else asked.waiting,
            threshold=0,
            n_current=0 if asked is None else asked.entries,
            details={} if asked is None else {"round": asked.round_id, "expires_at": asked.expires_at.isoformat()},
        )
        ids = findings.store(connection, self._model, [found])
        count_decisions(self._metrics, self._alerting.apply(connection, [Judged(ids[0], found)], now, now))


def _open(asked: Asked | None, now: datetime) -> bool:
    return asked is not None and asked.waiting > 0 and now < asked.expires_at


def _words(asked: Asked | None, verdict: Verdict) -> str:
    if asked is None or verdict is Verdict.OK:
        return "No answer waits for a label."
    return (
        f"{asked.waiting} answers wait for a label until {asked.expires_at:%Y-%m-%d %H:%M} UTC, so that quality can be "
        "told and a retrain started; `fusionwatch-monitor labels queue` lists them"
    )

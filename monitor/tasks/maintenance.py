"""Keeps the log's daily partitions a week ahead, and shows how far they reach."""

from __future__ import annotations

import logging

from sqlalchemy import Engine, text

from migrations.schema.partitions import DAYS_AHEAD, days_ahead, ensure_partitions
from monitor.domain.clock import Clock
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

# Making a partition locks its parent: behind a long transaction we give up and come again, instead of stopping writers.
LOCK_TIMEOUT = "2s"


class Maintenance:
    """The task."""

    def __init__(self, engine: Engine, metrics: Metrics, clock: Clock) -> None:
        self._engine = engine
        self._metrics = metrics
        self._clock = clock

    def run(self) -> None:
        """Make missing partitions and measure. Raises where the lock is not had within LOCK_TIMEOUT."""
        today = self._clock.now().date()
        try:
            with self._engine.begin() as connection:
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
                for name in ensure_partitions(connection, today, DAYS_AHEAD):
                    _log.info("made partition %s", name)
        finally:
            with self._engine.connect() as connection:
                self._metrics.partition_days_ahead.set(days_ahead(connection, today))

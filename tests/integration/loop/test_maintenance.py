"""Log partitions are made a week ahead, and how far they reach is shown even where they cannot be made."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from migrations.schema.partitions import DAYS_AHEAD, TABLES, partition_name
from monitor.tasks.maintenance import Maintenance
from monitor.telemetry import Metrics
from tests.support.monitored import Stage


def ahead(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("fusion_log_partition_days_ahead")


def drop(stage: Stage, *days: int) -> None:
    """Drop the partitions of so many days from today."""
    names = [partition_name(table, stage.clock.now().date() + timedelta(day)) for table in TABLES for day in days]
    with stage.engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {', '.join(names)}"))


def test_it_keeps_a_week_ahead_day_after_day(stage: Stage) -> None:
    metrics = Metrics()
    task = Maintenance(stage.engine, metrics, stage.clock)
    for _ in range(3):
        task.run()
        assert ahead(metrics) == DAYS_AHEAD
        stage.clock.advance(86_400)


def test_a_missing_tomorrow_shows_while_it_cannot_be_made(stage: Stage) -> None:
    metrics = Metrics()
    task = Maintenance(stage.engine, metrics, stage.clock)
    drop(stage, *range(2, DAYS_AHEAD + 1))
    with stage.engine.connect() as reader, reader.begin():
        reader.execute(text("SELECT count(*) FROM prediction_log"))  # a long report: its lock keeps partitions out
        with pytest.raises(OperationalError, match="lock timeout"):
            task.run()
    assert ahead(metrics) == 1, "tomorrow's is there, and the rule that is held against this number fires below 2"
    drop(stage, 1)
    with stage.engine.connect() as reader, reader.begin():
        reader.execute(text("SELECT count(*) FROM prediction_log"))
        with pytest.raises(OperationalError, match="lock timeout"):
            task.run()
    assert ahead(metrics) == 0
    task.run()
    assert ahead(metrics) == DAYS_AHEAD

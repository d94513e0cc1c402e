"""Log partitions are made a week ahead; how far they reach is shown, and told, even where they cannot be made."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from migrations.schema.partitions import DAYS_AHEAD, TABLES, partition_name
from monitor import wiring
from monitor.tasks.maintenance import Maintenance
from monitor.telemetry import Metrics
from tests.support.monitored import Stage, settings


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


def test_days_without_partitions_page_before_writing_stops_and_the_page_ends_once_they_are_made(
    stage: Stage, database: str
) -> None:
    stage.register("v1")
    detect = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)
    drop(stage, *range(3, DAYS_AHEAD + 1))
    detect.run()
    assert stage.alerts() == [], "two days are left"
    drop(stage, 2)
    stage.clock.advance(5)
    detect.run()
    (alert,) = stage.alerts()
    assert (alert.alertname, alert.severity, alert.state) == ("LogPartitionMissing", "page", "firing")
    tomorrow = stage.clock.now().date() + timedelta(days=2)
    assert f"rows find a place until {tomorrow} 00:00 UTC" in alert.annotations["summary"]
    Maintenance(stage.engine, Metrics(), stage.clock).run()
    stage.clock.advance(5)
    detect.run()
    assert [alert.state for alert in stage.alerts()] == ["resolved"]

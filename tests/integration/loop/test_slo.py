"""Objectives on a real database: what is counted, kept, added up over windows, and judged once."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, text

from migrations.schema.slos import slo_counts
from migrations.schema.summaries import summaries
from monitor import wiring
from monitor.domain.slo import BUDGET, Counts
from monitor.domain.window import Window
from monitor.storage import slos
from monitor.storage.slos import BUCKET, Sources
from monitor.tasks.slo import Slos
from monitor.telemetry import Metrics
from tests.support.monitored import T0, Stage, settings
from tests.support.slo_traffic import MINUTE, SLOTS, Minute, write

SOURCES = Sources("fusion", timedelta(minutes=1), {"fuse": 50, "total": 300}, "fusion.labels")
SLIS = ("availability.image", "availability.text", "latency.fuse.50", "latency.total.300", "agreement", "dead_letters")


def task(stage: Stage, database: str, metrics: Metrics | None = None, **changes: Any) -> Slos:
    return wiring.slos(settings(database, **SLOTS, **changes), stage.engine, metrics or Metrics(), stage.clock)


def play(stage: Stage, start: datetime, minutes: int, minute: Minute, **place: Any) -> None:
    with stage.engine.begin() as connection:
        write(connection, start, minute, minutes=minutes, **place)


def state(stage: Stage, slo: str) -> Any:
    return stage.scalar(f"SELECT state FROM slo_status WHERE slo = '{slo}'")


def window(stage: Stage, slo: str, name: str) -> tuple[int, int]:
    found = {each["window"]: (each["good"], each["valid"]) for each in state(stage, slo)["windows"]}
    return found[name]


def test_events_are_counted_out_of_all_partitions_versions_and_dead_letters(stage: Stage) -> None:
    stage.register("v1")
    stage.register("v2", champion=False)
    bad = Minute(50, image_gone=3, text_gone=4, slow_fuse=5, slow=6, disagree=7, refused=2, refused_labels=9)
    play(stage, T0, 2, bad)
    play(stage, T0, 1, Minute(10), partition=1)
    play(stage, T0, 1, Minute(10), version="v2", partition=2)
    play(stage, T0 + timedelta(minutes=2), 1, Minute(99))
    with stage.engine.connect() as connection:
        found = slos.per_slot(connection, SOURCES, Window(T0, T0 + timedelta(minutes=2)))
    by = {(each.sli, each.start): each.counts for each in found}
    first, second = T0, T0 + timedelta(minutes=1)
    assert by["availability.image", first] == Counts(67, 70)
    assert by["availability.text", first] == Counts(66, 70)
    assert by["latency.fuse.50", first] == Counts(65, 70)
    assert by["latency.total.300", first] == Counts(64, 70), "300 ms is within the limit"
    assert by["agreement", first] == Counts(63, 70)
    assert by["dead_letters", first] == Counts(70, 72), "refused labels are no failed requests"
    assert by["dead_letters", second] == Counts(50, 52)
    assert len(by) == 2 * len(SLIS)


def test_another_model_s_rows_are_not_counted(stage: Stage) -> None:
    stage.register("v1")
    play(stage, T0, 1, Minute(10), version="stranger")
    with stage.engine.connect() as connection:
        assert slos.per_slot(connection, SOURCES, Window(T0, T0 + timedelta(minutes=1))) == []


def test_only_refused_messages_are_bad_events_too(stage: Stage) -> None:
    stage.register("v1")
    with stage.engine.begin() as connection:
        write(connection, T0, Minute(5, refused=30))
        connection.execute(delete(summaries))
        found = slos.per_slot(connection, SOURCES, Window(T0, T0 + timedelta(minutes=1)))
    assert [(each.sli, each.counts) for each in found] == [("dead_letters", Counts(0, 30))]


def test_rows_of_before_totals_were_written_count_for_no_latency(stage: Stage) -> None:
    stage.register("v1")
    play(stage, T0, 1, Minute(5))
    with stage.engine.begin() as connection:
        connection.execute(text("UPDATE summaries SET totals = '{}'"))
        found = slos.per_slot(connection, SOURCES, Window(T0, T0 + timedelta(minutes=1)))
    valid = {each.sli: each.counts.valid for each in found}
    assert (valid["latency.fuse.50"], valid["agreement"], valid["availability.image"]) == (0, 0, 5)


def test_the_query_reads_the_slots_of_its_window_by_index(stage: Stage) -> None:
    stage.register("v1")
    play(stage, T0, 600, Minute(1))
    with stage.engine.begin() as connection:
        connection.execute(text("ANALYZE summaries"))
        query = slos._summed(SOURCES, Window(T0, T0 + timedelta(minutes=5)))
        compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {compiled}".replace(":", "\\:"))))
    assert "pk_summaries" in plan
    assert "Seq Scan on summaries" not in plan


def test_the_first_run_counts_what_is_there_of_a_month(stage: Stage, database: str) -> None:
    stage.register("v1")
    for days, bad in ((1, 1), (10, 2), (29, 4), (33, 8)):
        play(stage, T0 - timedelta(days=days), 10, Minute(100, text_gone=bad))
    task(stage, database).run()
    assert window(stage, "text_availability", "30d") == (3000 - 70, 3000)
    assert window(stage, "text_availability", "3d") == (990, 1000)
    assert window(stage, "text_availability", "1h") == (0, 0)
    assert state(stage, "text_availability")["budget_left"] == pytest.approx(1 - 70 / 3000 / 0.01)


def test_windows_add_up_what_their_time_holds(stage: Stage, database: str) -> None:
    """Each minute has another number of bad events, so that every window has its own sum."""
    stage.register("v1")
    minutes = 8 * 60
    with stage.engine.begin() as connection:
        for number in range(minutes):
            write(connection, T0 + timedelta(minutes=number), Minute(500, text_gone=number % 7))
    stage.clock.advance(minutes * MINUTE)
    task(stage, database).run()
    for name, length in (("5m", 5), ("15m", 15), ("30m", 30), ("1h", 60), ("2h", 120), ("6h", 360), ("1d", minutes)):
        bad = sum(number % 7 for number in range(minutes - length, minutes))
        good, valid = window(stage, "text_availability", name)
        assert (valid - good, valid) == (bad, 500 * length), name


def test_rows_that_come_late_are_counted_where_they_belong(stage: Stage, database: str) -> None:
    stage.register("v1")
    slo = task(stage, database)
    slo.run()
    late = T0 - timedelta(hours=5)
    play(stage, late, 5, Minute(100, text_gone=50))
    stage.clock.advance(MINUTE)
    slo.run()
    assert window(stage, "text_availability", "6h") == (0, 0)
    stage.clock.advance(3600)
    slo.run()
    assert window(stage, "text_availability", "1d") == (250, 500), "once an hour one looks a day back"


def test_what_passed_while_no_monitor_ran_is_counted(stage: Stage, database: str) -> None:
    stage.register("v1")
    task(stage, database).run()
    play(stage, T0, 30, Minute(10))
    stage.clock.advance(2 * 86400)
    task(stage, database).run()
    assert window(stage, "image_availability", "3d") == (300, 300)


def test_another_limit_is_counted_anew_over_the_month(stage: Stage, database: str) -> None:
    stage.register("v1")
    play(stage, T0 - timedelta(days=3), 10, Minute(100, slow_fuse=40))
    task(stage, database).run()
    assert window(stage, "fusion_latency", "30d") == (600, 1000)
    stage.clock.advance(MINUTE)
    task(stage, database, slos={"fusion_latency": {"limit_ms": 100}}).run()
    assert window(stage, "fusion_latency", "30d") == (1000, 1000)


def test_an_objective_switched_off_leaves_nothing_behind(stage: Stage, database: str) -> None:
    stage.register("v1")
    task(stage, database).run()
    stage.clock.advance(MINUTE)
    task(stage, database, slos={"agreement": None}).run()
    assert stage.scalar("SELECT count(*) FROM slo_status") == 5
    assert stage.scalar("SELECT count(*) FROM slo_status WHERE slo = 'agreement'") == 0


def test_buckets_beyond_the_budget_are_dropped(stage: Stage, database: str) -> None:
    stage.register("v1")
    slo = task(stage, database)
    play(stage, T0, 5, Minute(10))
    slo.run()
    stage.clock.advance(60 * 60 * 24 * 33)
    slo.run()
    with stage.engine.connect() as connection:
        oldest = connection.scalars(select(slo_counts.c.bucket_start)).all()
    assert all(start >= stage.clock.now() - BUDGET - timedelta(days=1) - BUCKET for start in oldest)


def test_running_again_at_once_and_two_monitors_at_once_do_it_once(stage: Stage, database: str) -> None:
    stage.register("v1")
    play(stage, T0, 60, Minute(20, slow=10))
    stage.clock.advance(3600)
    ones = [task(stage, database) for _ in range(3)]
    threads = [threading.Thread(target=one.run) for one in ones]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ones[0].run()
    assert stage.scalar("SELECT count(*) FROM findings WHERE detector = 'burn_rate_page'") == 1
    assert stage.scalar("SELECT count(*) FROM notifications WHERE status = 'due'") == 1
    assert stage.scalar("SELECT count(*) FROM notifications WHERE reason LIKE 'inhibited: ErrorBudgetBurnFast%'") == 1


def test_a_clock_set_back_changes_nothing_until_it_has_caught_up(stage: Stage, database: str) -> None:
    stage.register("v1")
    play(stage, T0, 60, Minute(20, text_gone=10))
    stage.clock.advance(3600)
    slo = task(stage, database)
    slo.run()
    before = state(stage, "text_availability")
    stage.clock.advance(-1800)
    slo.run()
    assert state(stage, "text_availability") == before


def test_without_a_champion_it_waits(stage: Stage, database: str) -> None:
    task(stage, database).run()
    assert stage.scalar("SELECT count(*) FROM slo_status") == 0


def test_gauges_show_burn_rates_and_the_budget_left(stage: Stage, database: str) -> None:
    stage.register("v1")
    play(stage, T0, 60, Minute(100, text_gone=2))
    stage.clock.advance(3600)
    metrics = Metrics()
    task(stage, database, metrics).run()

    def gauge(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"fusion_{name}", labels)

    assert gauge("slo_burn_rate", slo="text_availability", window="1h") == pytest.approx(2.0)
    assert gauge("slo_burn_rate", slo="image_availability", window="3d") == 0
    left = gauge("slo_error_budget_remaining_ratio", slo="text_availability", window="30d")
    assert left == pytest.approx(-1.0)
    assert gauge("slo_burn_rate", slo="text_availability", window="30d") is None


def test_without_events_there_is_no_gauge_and_no_verdict_of_well(stage: Stage, database: str) -> None:
    stage.register("v1")
    metrics = Metrics()
    task(stage, database, metrics).run()
    assert state(stage, "text_availability")["verdict"] == "no_data"
    labels = {"slo": "text_availability", "window": "1h"}
    assert metrics.registry.get_sample_value("fusion_slo_burn_rate", labels) is None

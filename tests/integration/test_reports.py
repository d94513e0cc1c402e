"""Reports on a real database: one for each period whoever begins it, what it tells, and who hears of the weekly one."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, Row, select

from demo import servers
from migrations.connect import connect
from migrations.schema.monitoring import alerts, findings
from migrations.schema.reports import report_files
from migrations.schema.reports import reports as table
from migrations.schema.summaries import summaries
from monitor import report_wiring, wiring
from monitor.alerts.message import Links
from monitor.channels.base import Outcome
from monitor.domain.cadence import Cadence
from monitor.domain.window import Window
from monitor.errors import ReportError
from monitor.reports.material import Material
from monitor.settings import MonitorSettings
from monitor.storage import reports as storage
from monitor.tasks.report import Making, Plan, Reports
from monitor.tasks.reporting import Held, gather
from monitor.telemetry import Metrics
from tests.support import seed
from tests.support.monitored import NORMAL, SLOT, T0, Inbox, Stage, StoryClock, settings

MIDNIGHT = T0.replace(hour=0) + timedelta(days=1)
TODAY = Window(MIDNIGHT - timedelta(days=1), MIDNIGHT)
DUE = MIDNIGHT + timedelta(hours=1)


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    """A model with a baseline and some slots of traffic of today."""
    engine = connect(database, application="test", pool_size=8)
    made = Stage(engine, StoryClock())
    made.register("v1")
    for _ in range(4):
        made.slot(NORMAL)
        made.clock.advance(SLOT)
    yield made
    engine.dispose()


def task(stage: Stage, inbox: Inbox | None = None, **changes: Any) -> Reports:
    """The task as the monitor makes it, without Evidently unless `changes` say so."""
    given = {"report_kinds": ["summary"], **changes}
    url = stage.engine.url.render_as_string(hide_password=False)
    return report_wiring.reports(
        settings(url, **given), stage.engine, {"log": inbox or Inbox()}, Metrics(), stage.clock
    )


def rows(engine: Engine) -> list[Row[Any]]:
    with engine.connect() as connection:
        return list(connection.execute(select(table).order_by(table.c.report_id)))


def test_a_day_is_reported_once_by_however_many_monitors(stage: Stage) -> None:
    task(stage, reports=["daily"]).run()
    assert rows(stage.engine) == [], "the day is not over"
    stage.clock.at = DUE
    barrier = threading.Barrier(4)

    def monitor() -> None:
        made = task(stage, reports=["daily"])
        barrier.wait()
        made.run()

    threads = [threading.Thread(target=monitor) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    task(stage, reports=["daily"]).run()
    (one,) = rows(stage.engine)
    assert (one.cadence, one.state, one.attempts, one.error) == ("daily", "done", 1, None)
    assert (one.period_start, one.period_end) == (TODAY.start, TODAY.end)
    assert one.headline == "800 requests, no alert and nothing drifted."
    with stage.engine.connect() as connection:
        kept = {row.name: row for row in connection.execute(select(report_files))}
    assert set(kept) == {"summary.html", "summary.md"}
    for row in kept.values():
        body = gzip.decompress(row.packed)
        assert (len(body), hashlib.sha256(body).hexdigest()) == (row.size, row.sha256)
        assert b"800" in body.replace("\u202f".encode(), b"")


def test_days_that_nobody_was_there_for_are_caught_up_with_and_old_ones_dropped(stage: Stage) -> None:
    stage.clock.at = DUE + timedelta(days=9)
    making = task(stage, reports=["daily"], report_keep_days=30)
    for _ in range(9):
        making.run()
    found = [row.period_end for row in rows(stage.engine)]
    assert found == [MIDNIGHT + timedelta(days=day) for day in range(3, 10)], "the newest seven, the oldest first"
    stage.clock.advance(31 * 86_400)
    making.run()
    assert min(row.period_end for row in rows(stage.engine)) >= stage.clock.now() - timedelta(days=30)


def test_a_report_that_fails_is_tried_again_and_one_whose_maker_is_lost_is_taken_over(stage: Stage) -> None:
    def broken(cadence: Cadence, window: Window, now: datetime) -> Material:
        raise ConnectionError("postgresql://user:secret@host")

    stage.clock.at = DUE
    metrics = Metrics()
    renderer = report_wiring.making(settings("postgresql+psycopg2://none/none"), stage.engine, metrics)._renderer
    making = Making(stage.engine, "fusion", broken, renderer, metrics, stage.clock)
    failing = Reports(making, Plan([Cadence.DAILY]), routes=(), channels={}, links=Links("", ""), metrics=metrics)
    for attempt in (1, 2):
        with pytest.raises(ConnectionError):
            failing.run()
        failing.run()  # too early for another
        (one,) = rows(stage.engine)
        assert (one.state, one.attempts, one.error) == ("failed", attempt, "ConnectionError"), "no text, no password"
        stage.clock.advance(601)
    retry = Plan().retry
    with stage.engine.begin() as connection:
        mine = storage.claim(connection, "fusion", Cadence.DAILY, TODAY, now=stage.clock.now(), retry=retry)
    assert mine is not None
    assert mine.attempt == 3
    stage.clock.advance(retry.lost.total_seconds())
    task(stage, reports=[]).run()
    task(stage, reports=["daily"]).run()
    with stage.engine.begin() as connection:
        assert not storage.keep(connection, mine, {}, headline="late", error=None, now=stage.clock.now())
    (one,) = rows(stage.engine)
    assert (one.state, one.attempts, one.error) == ("failed", 3, "begun 3 times, and never ended")
    assert (
        report_wiring.making(
            settings(str(stage.engine.url.render_as_string(hide_password=False)), report_kinds=["summary"]),
            stage.engine,
            metrics,
            stage.clock,
        )
        .asked(TODAY)
        .headline.startswith("800 requests")
    ), "people may ask for it all the same"


def test_a_lost_report_is_made_by_another_and_the_late_one_is_refused(stage: Stage) -> None:
    stage.clock.at = DUE
    with stage.engine.begin() as connection:
        late = storage.claim(connection, "fusion", Cadence.DAILY, TODAY, now=DUE, retry=Plan().retry)
    assert late is not None
    task(stage, reports=["daily"]).run()
    assert rows(stage.engine)[0].state == "running", "it may be under way"
    stage.clock.advance(2 * 3600)
    task(stage, reports=["daily"]).run()
    with stage.engine.begin() as connection:
        assert not storage.keep(connection, late, {}, headline="late", error=None, now=stage.clock.now())
        assert not storage.fail(connection, late, error="late", now=stage.clock.now())
    (one,) = rows(stage.engine)
    assert (one.state, one.attempts) == ("done", 2)
    assert one.headline != "late"


def test_the_weekly_report_is_told_once_with_its_address(stage: Stage) -> None:
    inbox = Inbox(outcome=Outcome.RETRY)
    week = task(stage, inbox, reports=["weekly"], dashboard_url="https://status.example/fusion/")
    stage.clock.at = MIDNIGHT + timedelta(days=7 - TODAY.start.weekday() - 1, hours=1)
    week.run()
    week.run()
    assert len(inbox.messages) == 2, "a receiver that asks for it is tried again"
    inbox.outcome = Outcome.SENT
    week.run()
    week.run()
    assert len(inbox.messages) == 3
    assert len(set(inbox.keys)) == 1, "by its key a receiver sees that it is the same"
    told, (one,) = inbox.messages[-1], rows(stage.engine)
    page = f"https://status.example/fusion/reports/{one.report_id}/summary.html"
    assert (told["alertname"], told["severity"], told["state"]) == ("WeeklyReport", "ticket", "firing")
    assert told["dashboard"] == page
    assert one.headline in told["summary"]
    assert told["summary"].endswith(page)
    assert told["runbook"].endswith("weekly-report.md")
    assert one.told == {"log": "sent"}


def test_a_stopped_monitor_leaves_the_report_for_the_next_start(stage: Stage) -> None:
    stage.clock.at = DUE
    stopped = task(stage, reports=["daily"], report_kinds=["evidently", "summary"])
    stopped.stop()
    stopped.run()
    (one,) = rows(stage.engine)
    assert (one.state, one.error) == ("failed", "the monitor is ending")
    stage.clock.advance(601)
    task(stage, reports=["daily"]).run()
    assert rows(stage.engine)[0].state == "done"


def test_what_cannot_be_asked_for_is_refused(stage: Stage) -> None:
    making = report_wiring.making(settings(str(stage.engine.url)), stage.engine, Metrics(), stage.clock)
    now = stage.clock.now()
    with pytest.raises(ReportError, match="has not come yet"):
        making.asked(Window(now + timedelta(days=1), now + timedelta(days=2)))
    with pytest.raises(ReportError, match="92 days at most, not 93"):
        making.asked(Window(now - timedelta(days=93), now))
    assert rows(stage.engine) == []


@pytest.fixture(scope="module")
def seeded(postgres_server: servers.Database) -> Iterator[Engine]:
    made = connect(postgres_server.create("seeded_for_reports", template="template"), application="test")
    seed.seed(made, outage=True)
    url = made.url.render_as_string(hide_password=False)
    given = MonitorSettings.model_validate({"database_url": url, "model": seed.MODEL, **seed.TIMING})
    wiring.slos(given, made, Metrics(), seed.FixedClock()).run()
    yield made
    made.dispose()
    postgres_server.drop("seeded_for_reports")


def test_a_report_tells_what_the_rows_say(seeded: Engine) -> None:
    window = Window(seed.at("11:45"), seed.at("12:15"))
    told = gather(
        seeded, seed.MODEL, Cadence.ASKED, window, now=seed.NOW, held=Held(0.05, 500), status_page="http://s/"
    )
    with seeded.connect() as connection:
        every = [row for row in connection.execute(select(findings)) if window.start < row.window_end <= window.end]
        counts: dict[str, Counter[str]] = {}
        for row in connection.execute(select(summaries)):
            if window.start <= row.slot_start < window.end:
                counts.setdefault(row.modality, Counter()).update(row.counts)
        fired = {row.alert_id: row for row in connection.execute(select(alerts)) if row.firing_since}
    verdicts = Counter((row.detector, row.modality, row.verdict) for row in every)
    by_check = {(each.detector, each.modality): each for each in told.checks}
    assert {key[:2] for key in verdicts} == set(by_check)
    for (detector, modality), each in by_check.items():
        mine = [row for row in every if (row.detector, row.modality) == (detector, modality)]
        last = max(mine, key=lambda row: row.window_end)
        drifts = [row.window_end for row in mine if row.verdict == "drift"]
        assert each.verdicts == Counter(row.verdict for row in mine)
        assert (each.value, each.verdict, each.explanation) == (last.value, last.verdict, last.explanation)
        assert (each.drift_since, each.drift_until) == ((min(drifts), max(drifts)) if drifts else (None, None))
    assert told.traffic.requests == counts["fused"]["rows"] + counts["fused"]["quarantined"]
    assert {each.modality: each.counts for each in told.modalities} == {
        name: dict(counts[name]) for name in ("image", "text")
    }
    overlapping = {
        alert_id
        for alert_id, row in fired.items()
        if row.firing_since < window.end and (row.resolved_at is None or row.resolved_at >= window.start)
    }
    assert {each.alert_id for each in told.incidents} == overlapping
    assert told.incidents[0].severity == "page"
    image = next(each for each in told.objectives if each.slo == "image_availability")
    assert image.share == pytest.approx(counts["image"]["present"] / counts["image"].total())
    assert image.budget_left is not None
    assert image.budget_left < 0
    assert told.compared.columns == []
    assert told.versions == {seed.VERSION: 180}


def test_distributions_are_of_the_slots_of_the_period_beside_the_baseline(stage: Stage) -> None:
    told = gather(stage.engine, "fusion", Cadence.DAILY, TODAY, now=DUE, held=Held(0.05, 500), status_page="http://s/")
    names = {each.name for each in told.compared.columns}
    assert names >= {"predicted class", "heads agree", "image brightness", "text length", "fused embedding distance"}
    mix = next(each for each in told.compared.columns if each.name == "predicted class")
    assert (mix.reference_rows, mix.current_rows, told.compared.slots) == (1600, 800, 4)
    assert told.compared.left_out == []
    assert told.baseline == "baseline 1 of v1 (checkpoint)"
    assert Material.model_validate_json(told.model_dump_json()) == told, "it crosses to another process whole"

"""A database that takes no writes is told of without it: a really full disk, a server that is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from demo import servers
from demo.small_disk import SmallDisk, database_on_small_disk
from migrations.connect import connect
from monitor import wiring
from monitor.alerts.message import Links
from monitor.channels.base import Outcome
from monitor.domain.clock import SystemClock
from monitor.tasks.leader import Leadership
from monitor.tasks.lifeline import Lifeline
from monitor.tasks.notify import Notify, RetryPolicy
from monitor.tasks.scheduler import Scheduler, Task
from monitor.telemetry import Metrics
from tests.integration.loop.test_notify import queue
from tests.integration.loop.test_scheduler import running, until
from tests.support.monitored import GRACE, HOP, NORMAL, SLOT, Inbox, Stage, StoryClock, settings

PATIENCE = 60
NOWHERE = "postgresql+psycopg2://nobody@/none?host=/nonexistent"


def lifeline(
    engine: Engine, clock: StoryClock, *inboxes: Inbox, resend: dict[str, timedelta] | None = None
) -> Lifeline:
    return Lifeline(
        engine,
        {f"receiver-{number}": inbox for number, inbox in enumerate(inboxes)},
        model="fusion",
        links=Links("http://status.test/", "dashboards/runbooks"),
        patience=timedelta(seconds=PATIENCE),
        metrics=Metrics(),
        clock=clock,
        resend=resend,
    )


@pytest.fixture
def small(postgres_server: servers.Database) -> Iterator[tuple[Stage, SmallDisk, str]]:
    with database_on_small_disk(postgres_server, "monitor_on_small_disk", "template") as (url, disk):
        engine = connect(url, application="test", pool_size=8)
        yield Stage(engine, StoryClock()), disk, url
        engine.dispose()


def test_a_full_disk_pages_without_the_database_and_resolves_when_there_is_room(
    small: tuple[Stage, SmallDisk, str],
) -> None:
    stage, disk, url = small
    clock, inbox = stage.clock, Inbox()
    line = lifeline(stage.engine, clock, inbox)
    detect = line.guard(wiring.detect(settings(url), stage.engine, Metrics(), clock).run)
    stage.register("v1")
    for _ in range(HOP // SLOT):
        stage.slot(NORMAL)
        clock.advance(SLOT)
    detect()
    line.run()
    assert inbox.messages == []
    disk.fill()
    clock.advance(HOP + GRACE)
    with pytest.raises(OperationalError, match="No space left on device"):
        _until_refused(detect, stage)
    for _ in range(PATIENCE // SLOT):
        line.run()
        assert inbox.messages == []
        clock.advance(SLOT)
        with pytest.raises(OperationalError):
            detect()
    for _ in range(3):
        line.run()
    (page,) = inbox.messages
    assert (page["alertname"], page["severity"], page["state"]) == ("DatabaseWritesFail", "page", "firing")
    assert page["summary"] == "The monitor cannot write to the database: DiskFull (53100)"
    assert page["runbook"] == "dashboards/runbooks/database-writes-fail.md"
    judged = len(stage.verdicts("baseline", "all"))
    disk.free()
    detect()
    for _ in range(3):
        line.run()
    assert [message["state"] for message in inbox.messages] == ["firing", "resolved"]
    assert inbox.keys[0] != inbox.keys[1]
    assert len(stage.verdicts("baseline", "all")) > judged, "what was due is judged after all"


def _until_refused(run: Callable[[], None], stage: Stage) -> None:
    """Pages that are half full take a row or two: run until nothing fits."""
    for _ in range(100):
        run()
        stage.clock.advance(HOP)
    raise AssertionError("the full disk took every row")


def test_a_database_that_is_away_pages_each_receiver_once_and_retries_the_one_that_fails() -> None:
    clock, well, failing = StoryClock(), Inbox(), Inbox(Outcome.RETRY)
    line = lifeline(connect(NOWHERE, application="test"), clock, well, failing)
    for _ in range(PATIENCE + 1):
        line.run()
        clock.advance(1)
    assert len(well.messages) == 1
    assert well.messages[0]["summary"] == ("Seen by the monitor, the database cannot be reached: OperationalError")
    for _ in range(30):
        line.run()
        clock.advance(1)
    assert len(well.messages) == 1
    assert 2 <= len(failing.messages) <= 6, "it backs off"
    assert len(set(failing.keys)) == 1
    failing.outcome = Outcome.SENT
    tried = len(failing.messages)
    for _ in range(60):
        line.run()
        clock.advance(1)
    assert len(failing.messages) == tried + 1


def test_who_forgets_hears_each_minute_of_what_lasts_and_once_of_its_end(stage: Stage) -> None:
    forgets, keeps = Inbox(), Inbox()
    line = lifeline(stage.engine, stage.clock, forgets, keeps, resend={"receiver-0": timedelta(minutes=1)})

    def refused() -> None:
        with stage.engine.begin() as connection:
            connection.execute(text("SELECT 1 / 0"))

    for _ in range(PATIENCE + 150):
        with pytest.raises(Exception, match="division by zero"):
            line.guard(refused)()
        line.run()
        stage.clock.advance(1)
    assert (len(forgets.messages), len(keeps.messages)) == (3, 1)
    line.guard(lambda: None)()
    line.run()
    line.run()
    assert [each["state"] for each in forgets.messages] == ["firing"] * 3 + ["resolved"]
    assert [each["state"] for each in keeps.messages] == ["firing", "resolved"]


def test_trouble_that_does_not_last_is_not_told(stage: Stage) -> None:
    inbox = Inbox()
    line = lifeline(stage.engine, stage.clock, inbox)

    def refused() -> None:
        with stage.engine.begin() as connection:
            connection.execute(text("SELECT 1 / 0"))

    for _ in range(4):
        with pytest.raises(Exception, match="division by zero"):
            line.guard(refused)()
        line.run()
        stage.clock.advance(PATIENCE - 1)
        line.guard(lambda: None)()
        line.run()
    assert inbox.messages == []


def test_what_a_monitor_saw_before_another_took_over_is_forgotten(stage: Stage) -> None:
    inbox = Inbox()
    line = lifeline(stage.engine, stage.clock, inbox)

    def refused() -> None:
        with stage.engine.begin() as connection:
            connection.execute(text("SELECT 1 / 0"))

    for _ in range(2):
        with pytest.raises(Exception, match="division by zero"):
            line.guard(refused)()
        line.run()
        stage.clock.advance(PATIENCE)
    line.run()
    stage.clock.advance(2 * PATIENCE)
    line.run()
    assert [message["state"] for message in inbox.messages] == ["firing", "resolved"]


def test_a_monitor_without_database_leads_nothing_and_still_looks() -> None:
    engine = connect(NOWHERE, application="test")
    ran: list[str] = []
    tasks = [
        Task("led", 0.05, lambda: ran.append("led")),
        Task("lifeline", 0.05, lambda: ran.append("lifeline"), leader_only=False),
    ]
    with running(Scheduler(tasks, Leadership(engine, "fusion"), Metrics(), SystemClock())):
        until(lambda: len(ran) >= 3)
    assert set(ran) == {"lifeline"}


def test_the_monitor_has_it_for_the_receivers_of_pages(database: str) -> None:
    given = settings(
        database,
        receivers={"pager": {"channel": "log"}, "tickets": {"channel": "log"}},
        routes=[{"matchers": ["severity=page"], "receiver": "pager"}, {"receiver": "tickets"}],
    )
    monitor = wiring.Monitor(given)
    assert set(monitor.lifeline._channels) == {"pager"}
    monitor.close()


def test_a_message_whose_mark_finds_the_disk_full_is_not_sent_again(small: tuple[Stage, SmallDisk, str]) -> None:
    stage, disk, _ = small
    inbox = Inbox()
    notify = Notify(stage.engine, {"log": inbox}, RetryPolicy(), Metrics(), stage.clock)
    queue(stage, ("firing", "log", "due"))
    disk.fill()
    another = text(
        "INSERT INTO notifications (alert_id, event, receiver, status, payload, next_attempt_at)"
        " SELECT alert_id, 'firing', 'other-' || :n, 'failed', payload, next_attempt_at"
        " FROM notifications WHERE receiver = 'log'"
    )
    numbers = iter(range(100))

    def fill_the_page() -> None:
        with stage.engine.begin() as connection:
            connection.execute(another, {"n": next(numbers)})

    with pytest.raises(OperationalError, match="No space left on device"):
        _until_refused(fill_the_page, stage)
    for _ in range(3):
        with pytest.raises(OperationalError, match="No space left on device"):
            notify.run()
    assert len(inbox.messages) == 1
    disk.free()
    notify.run()
    assert len(inbox.messages) == 1
    assert stage.scalar("SELECT status FROM notifications WHERE receiver = 'log'") == "sent"

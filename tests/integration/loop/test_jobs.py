"""Jobs in the queue, on the real tables: lost trainers, deadlines, cancelling, and the ticket about what failed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text, update

from migrations.schema.monitoring import jobs, notifications
from monitor import loop_wiring, wiring
from monitor.api.app import create_app
from monitor.errors import JobStateError
from monitor.storage import jobs as stored
from monitor.tasks.jobs import Cancelling, Jobs
from monitor.telemetry import Metrics
from tests.support.monitored import HOP, SLOT, WINDOW, Stage, settings
from tests.support.tokens import of

TOKEN = "0123456789abcdef"


@pytest.fixture
def queue(stage: Stage, database: str) -> Jobs:
    stage.register("v1")
    return loop_wiring.jobs(settings(database, retrain_max_attempts=2), stage.engine, Metrics(), stage.clock)


def ask(stage: Stage) -> int:
    """Put a job into the queue."""
    now = stage.clock.now()
    with stage.engine.begin() as connection:
        job_id = stored.queue(connection, "fusion", {}, now=now, deadline=now + timedelta(hours=6))
    assert job_id is not None
    return job_id


def job(stage: Stage) -> Any:
    with stage.engine.connect() as connection:
        return connection.execute(select(jobs).order_by(jobs.c.job_id.desc())).first()


def trainer(stage: Stage, **values: Any) -> None:
    """What a trainer writes into the job it holds."""
    with stage.engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.job_id == job(stage).job_id).values(**values))


def test_a_lost_trainer_frees_its_job_until_attempts_are_spent(stage: Stage, queue: Jobs) -> None:
    ask(stage)
    for attempt in (1, 2):
        lease = stage.clock.now() + timedelta(seconds=60)
        trainer(stage, state="running", claimed_by="t1", lease_until=lease, attempts=attempt, error="out of memory")
        queue.run()
        assert job(stage).state == "running"
        stage.clock.advance(61)
        queue.run()
        if attempt == 1:
            assert (job(stage).state, job(stage).claimed_by) == ("queued", None)
    assert job(stage).state == "failed"
    assert job(stage).error == "lease lost 2 times, by t1 last; the trainer said: out of memory"


@pytest.mark.parametrize(("state", "why"), [("queued", "no trainer claimed it"), ("running", "no trainer finished it")])
def test_the_deadline_ends_a_job_that_hangs_and_its_lease(stage: Stage, queue: Jobs, state: str, why: str) -> None:
    ask(stage)
    stage.clock.advance(6 * 3600)
    trainer(stage, state=state, claimed_by="t1", lease_until=stage.clock.now() + timedelta(seconds=60))
    queue.run()
    assert (job(stage).state, job(stage).lease_until) == ("failed", None)
    assert why in job(stage).error


def test_a_job_that_failed_is_a_ticket_until_a_later_one_gets_to_the_gate(
    stage: Stage, queue: Jobs, database: str
) -> None:
    detect = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)

    def told() -> list[tuple[str, str]]:
        detect.run()
        query = select(notifications.c.payload).order_by(notifications.c.notification_id)
        with stage.engine.connect() as connection:
            return [(each["state"], each["summary"]) for each in connection.scalars(query)]

    def fail() -> None:
        trainer(stage, state="running", attempts=2, claimed_by="t1", lease_until=stage.clock.now())
        stage.clock.advance(1)
        queue.run()

    ask(stage)
    assert told() == []
    fail()
    first = ("firing", "A retrain job has failed. Job 1: lease lost 2 times, by t1 last.")
    stage.clock.advance(1)
    assert told() == [first]
    stage.clock.advance(1)
    assert told() == [first], "once"
    ask(stage)
    trainer(stage, state="cancelled")
    ask(stage)
    stage.clock.advance(1)
    assert told() == [first], "neither a job under way nor one that was cancelled says that it works again"
    trainer(stage, state="trained")
    stage.clock.advance(1)
    assert [state for state, _ in told()] == ["firing", "resolved"]
    assert stage.scalar("SELECT severity FROM alerts") == "ticket"


def test_a_job_is_cancelled_once_by_who_may(stage: Stage, queue: Jobs) -> None:
    app = create_app(
        stage.engine,
        model="fusion",
        slot_seconds=SLOT,
        hop_seconds=HOP,
        window_seconds=WINDOW,
        clock=stage.clock,
        access=of({"kim": (TOKEN, "retrain")}),
    )
    client = TestClient(app)
    ask(stage)
    trainer(stage, state="running", claimed_by="t1", attempts=1, lease_until=stage.clock.now() + timedelta(seconds=60))
    said = {"reason": "wrong labels"}
    assert client.post("/v1/jobs/1/cancel", json=said).status_code == 401
    assert job(stage).state == "running"
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    assert client.post("/v1/jobs/1/cancel", json=said, headers=allowed).json() == {"job_id": 1, "was": "running"}
    (shown,) = client.get("/v1/jobs").json()["items"]
    assert (shown["state"], shown["lease_until"], shown["claimed_by"]) == ("cancelled", None, "t1")
    again = client.post("/v1/jobs/1/cancel", json=said, headers=allowed)
    assert (again.status_code, again.json()["detail"]) == (409, "job 1 is cancelled: there is nothing left to cancel")
    with pytest.raises(JobStateError, match="has no job 2"):
        Cancelling(stage.engine, "fusion", stage.clock).cancel(2, actor="kim", reason="?")
    with stage.engine.connect() as connection:
        (row,) = connection.execute(text("SELECT actor, action, subject, details ->> 'reason' FROM audit_log")).all()
    assert tuple(row) == ("kim", "job_cancelled", "job 1", "wrong labels")
    ask(stage)  # the model has no active job any more

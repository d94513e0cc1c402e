"""A real Alertmanager receives, groups, silences and resolves our alerts, from findings to its own notifications."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from migrations.connect import connect
from monitor import alert_wiring
from monitor.alerts.message import direct
from monitor.channels.alertmanager import AlertmanagerChannel, AlertmanagerOptions
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import Window
from monitor.storage import findings
from monitor.tasks.alerting import Judged
from monitor.telemetry import Metrics
from tests.support.alertmanager import Alertmanager, running, until
from tests.support.http_stub import Stub, answering
from tests.support.monitored import Stage, StoryClock, settings

pytestmark = pytest.mark.servers
RESOLVE = 240


@dataclass
class Service:
    """A monitor whose only receiver is Alertmanager; `clock` is the channel's and the outbox's."""

    stage: Stage
    server: Alertmanager
    people: Stub
    clock: StoryClock

    def __post_init__(self) -> None:
        url = str(self.stage.engine.url.render_as_string(hide_password=False))
        given = {"am": {"channel": "alertmanager", "url": self.server.url, "resolve_seconds": str(RESOLVE)}}
        chosen = settings(url, receivers=given)
        options = AlertmanagerOptions(url=self.server.url, resolve_seconds=RESOLVE)
        self.channel = AlertmanagerChannel(options, self.clock)
        built = {"am": self.channel}
        self.alerting = alert_wiring.alerting(chosen)
        self.notify = alert_wiring.notify(chosen, self.stage.engine, built, Metrics(), self.clock)
        self.resend = alert_wiring.resend(chosen, self.stage.engine, built, Metrics(), self.clock)
        self.end = self.clock.now() - timedelta(minutes=10)

    def judge(self, **verdicts: Verdict) -> None:
        """A window's verdicts on the availability of modalities, from finding to Alertmanager."""
        self.end += timedelta(seconds=1)
        found = [finding(modality, verdict, self.end) for modality, verdict in verdicts.items()]
        with self.stage.engine.begin() as connection:
            ids = findings.store(connection, "fusion", found)
            judged = [Judged(i, one) for i, one in zip(ids, found, strict=True)]
            self.alerting.apply(connection, judged, self.end, self.clock.now())
        self.tell()

    def tell(self) -> None:
        self.notify.run()
        self.resend.run()

    def told(self) -> list[tuple[str, tuple[str, ...]]]:
        """What Alertmanager told people: status, and the modalities of one message."""
        messages = [json.loads(body) for _, body in self.people.requests]
        return [
            (one["status"], tuple(sorted(each["labels"]["modality"] for each in one["alerts"]))) for one in messages
        ]

    def state(self, modality: str) -> str | None:
        found: dict[str, Any] | None = self.server.alerts().get(modality)
        return None if found is None else str(found["status"]["state"])


def finding(modality: str, verdict: Verdict, end: datetime) -> Finding:
    return Finding(
        detector="availability",
        modality=modality,
        window=Window(end - timedelta(minutes=5), end),
        verdict=verdict,
        value=0.0 if verdict is Verdict.DRIFT else 1.0,
        p_value=None,
        effect=None,
        interval=None,
        threshold=0.99,
        n_reference=0,
        n_current=400,
        baseline_id=None,
        model_version="v1",
        explanation=f"{modality} was there in 0 of 400 requests; größer 🚨.",
        details={"state": "gone"} if verdict is Verdict.DRIFT else {},
    )


@pytest.fixture
def service(database: str, tmp_path: Path) -> Iterator[Service]:
    engine = connect(database, application="test")
    stage = Stage(engine, StoryClock())
    stage.register("v1")
    with answering(200) as people, running(tmp_path, people.url) as server:
        made = Service(stage, server, people, StoryClock(datetime.now(UTC)))
        yield made
        made.channel.close()
    engine.dispose()


GONE, BACK = Verdict.DRIFT, Verdict.OK


def test_alerts_are_received_grouped_silenced_kept_up_and_resolved(service: Service) -> None:
    service.server.silence(modality="audio")
    service.judge(image=GONE, text=GONE, audio=GONE)
    until(lambda: ("firing", ("image", "text")) in service.told(), "one message about both")
    held = service.server.alerts()
    assert {modality: each["status"]["state"] for modality, each in held.items()} == {
        "image": "active",
        "text": "active",
        "audio": "suppressed",
    }
    assert held["image"]["annotations"]["summary"].endswith("größer 🚨.")
    assert held["image"]["annotations"]["model_version"] == "v1"
    assert held["image"]["labels"]["severity"] == "page"

    # kept up: what fires is sent again each minute, and ends later by as much
    ends = datetime.fromisoformat(held["image"]["endsAt"])
    assert abs(ends - service.clock.now() - timedelta(seconds=RESOLVE)) < timedelta(seconds=1)
    service.clock.advance(59)
    service.tell()
    assert datetime.fromisoformat(service.server.alerts()["image"]["endsAt"]) == ends
    service.clock.advance(1)
    service.tell()
    assert datetime.fromisoformat(service.server.alerts()["image"]["endsAt"]) == ends + timedelta(seconds=60)
    assert len(service.stage.notifications()) == 3, "which is no new notification"

    # over: it says so to people, and is not sent again
    service.judge(image=BACK, text=GONE)
    service.judge(image=BACK, text=GONE)
    until(lambda: service.state("image") is None, "an image alert that is over")
    until(lambda: "resolved" in statuses(service, "image"), "a message that says so")
    service.clock.advance(60)
    service.tell()
    assert (service.state("image"), service.state("text")) == (None, "active")
    assert all("audio" not in modalities for _, modalities in service.told())


def test_an_alert_ends_when_its_time_is_up_and_comes_back_when_it_is_sent_again(service: Service) -> None:
    """As after a monitor was away; the channel's clock is moved, so that nobody has to wait."""
    now = service.clock.now()
    service.judge(image=GONE)
    until(lambda: service.state("image") == "active", "an alert")
    service.clock.at = now - timedelta(seconds=RESOLVE + 60)
    service.clock.elapsed += 60
    service.tell()
    until(lambda: service.state("image") is None, "its end")
    service.clock.at = datetime.now(UTC)
    service.clock.elapsed += 60
    service.tell()
    until(lambda: service.state("image") == "active", "the same alert again")


def test_a_late_end_of_an_old_alert_does_not_end_the_newer_one(service: Service) -> None:
    service.judge(image=GONE)
    until(lambda: service.state("image") == "active", "an alert")
    with service.stage.engine.begin() as connection:  # its end waits for the next try
        service.end += timedelta(seconds=1)
        for _ in range(2):
            service.end += timedelta(seconds=1)
            found = finding("image", BACK, service.end)
            ids = findings.store(connection, "fusion", [found])
            service.alerting.apply(connection, [Judged(ids[0], found)], service.end, service.clock.now())
        connection.exec_driver_sql(
            "UPDATE notifications SET next_attempt_at = next_attempt_at + interval '1 minute' WHERE event = 'resolved'"
        )
    service.judge(image=GONE)
    service.clock.advance(60)
    service.tell()
    reasons = {row.reason for row in service.stage.notifications() if row.event == "resolved"}
    assert reasons == {"fires_again"}
    assert service.state("image") == "active"


def test_what_is_told_without_the_database_comes_and_goes(service: Service) -> None:
    links = alert_wiring.links(settings("postgresql+psycopg2://nobody@/none"))
    begun = service.clock.now() - timedelta(minutes=2)

    def said(over: datetime | None) -> dict[str, Any]:
        told = ("DatabaseWritesFail", "The monitor cannot write")
        return direct(*told, model="fusion", since=begun, resolved_at=over, links=links, runbook="database-writes-fail")

    service.channel.send(said(None), "key")
    until(lambda: service.state("all") == "active", "a page")
    service.channel.send(said(service.clock.now()), "key")
    until(lambda: service.state("all") is None, "its end")


def statuses(service: Service, modality: str) -> list[str]:
    messages = [json.loads(body) for _, body in service.people.requests]
    return [each["status"] for one in messages for each in one["alerts"] if each["labels"]["modality"] == modality]

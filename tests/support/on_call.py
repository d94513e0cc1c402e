"""The way from findings to a person at the shipped times, on a real database, with a clock that tests move.

Findings are given instead of computed, so that a story tells of the pipeline alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from monitor.alerts.grouping import Timing
from monitor.alerts.message import Links
from monitor.alerts.routes import everyone
from monitor.domain.finding import Finding, Verdict
from monitor.domain.silence import Kind
from monitor.domain.window import Window
from monitor.storage import findings
from monitor.tasks.alerting import Alerting, Judged
from monitor.tasks.notify import Notify, RetryPolicy
from monitor.tasks.silences import Silences
from monitor.telemetry import Metrics
from tests.support.monitored import Inbox, Stage

MINUTE, HOUR = 60, 3600
HOP, WINDOW = 5 * MINUTE, HOUR
TICK = 5  # seconds between two looks of the monitor
OUTAGE, DRIFT = "availability", "embedding_mmd"  # a page and a ticket, by their detectors
BAD, GOOD, UNKNOWN = Verdict.DRIFT, Verdict.OK, Verdict.INSUFFICIENT


class OnCall:
    """A person, and the pipeline that tells them. Times are seconds since the story's start."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.clock, self.inbox = stage, stage.clock, Inbox()
        self.start = stage.clock.now()
        self.alerting = Alerting(
            "fusion",
            routes=everyone(["log"]),
            links=Links("http://127.0.0.1:8080/", "dashboards/runbooks"),
            window=timedelta(seconds=WINDOW),
            hop=timedelta(seconds=HOP),
            timing=Timing(),
        )
        self.notify = Notify(stage.engine, {"log": self.inbox}, RetryPolicy(), Metrics(), stage.clock)
        self.silences = Silences(stage.engine, "fusion", stage.clock)
        self.heard: list[tuple[float, str, str, str]] = []

    @property
    def now(self) -> float:
        return (self.clock.now() - self.start).total_seconds()

    def judge(self, detector: str, verdict: Verdict, modality: str = "image", **details: Any) -> None:
        """A window that ends now has this verdict."""
        end = self.clock.now()
        found = Finding(
            detector=detector,
            modality=modality,
            window=Window(end - timedelta(seconds=HOP), end),
            verdict=verdict,
            value=0.4,
            p_value=0.001,
            effect=0.4,
            interval=(0.3, 0.5),
            threshold=0.99,
            n_reference=1000,
            n_current=500,
            baseline_id=None,
            model_version="v1",
            explanation="It is as it is.",
            details=details,
        )
        with self.stage.engine.begin() as connection:
            findings.lock(connection, "fusion")
            (number,) = findings.store(connection, "fusion", [found])
            self.alerting.apply(connection, [Judged(number, found)], end, end)

    def gone(self, modality: str = "image") -> None:
        """No request of the window that ends now had the modality: an outage, which does not wait for a second one."""
        self.judge(OUTAGE, BAD, modality, state="gone")

    def look(self) -> None:
        """What the monitor does every few seconds, whether a window has ended or not."""
        before, now = len(self.inbox.messages), self.clock.now()
        with self.stage.engine.begin() as connection:
            findings.lock(connection, "fusion")
            self.alerting.apply(connection, [], now, now)
        self.notify.run()
        self.heard += [(self.now, *told) for told in self.inbox.told()[before:]]

    def until(self, seconds: float, tick: float = TICK) -> None:
        """Look on until then, every so often."""
        self.look()
        while self.now < seconds:
            self.clock.advance(min(tick, seconds - self.now))
            self.look()

    def silence(self, start: float, end: float, kind: Kind = Kind.SILENCE, **matchers: str) -> int:
        begin = self.start + timedelta(seconds=start)
        over = self.start + timedelta(seconds=end)
        made = self.silences.add(matchers, kind=kind, start=begin, end=over, owner="ann", reason="new camera")
        return made.silence_id

    def reasons(self, status: str) -> set[str]:
        return {row.reason for row in self.stage.notifications() if row.status == status}

    def told(self) -> list[tuple[str, str, str]]:
        return [(name, modality, state) for _, name, modality, state in self.heard]

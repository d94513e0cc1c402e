"""The stage that the story plays on: what its steps may touch, and how they wait for what must be found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from demo import ledger
from demo.observe import Observer, Told
from demo.processes import Program
from demo.results import Results, StepResult
from demo.traffic import Labeller, Scenario, Traffic
from demo.view import View

Found = TypeVar("Found")
TICK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things last, in seconds; `window` and `hop` are the monitor's."""

    window: float = 20.0
    hop: float = 5.0
    normal: float = 60.0
    outage: float = 30.0
    at_most: float = 120.0
    camera: float = 40.0
    retrain: float = 150.0
    down: float = 3.0


@dataclass(slots=True)
class Stage:
    """Everything a step may touch."""

    traffic: Traffic
    labeller: Labeller
    observer: Observer
    worker: Program
    programs: list[Program]
    view: View
    audit: Callable[[], ledger.Totals]
    dead_letter_codes: Callable[[], dict[str, int]]
    seed: int
    pace: Pace
    results: Results = field(default_factory=Results)
    number: int = 0

    def hold(self, seconds: float, note: str) -> None:
        """Let traffic flow for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.view.note(self.number, f"{note} ({left:.0f} s)")
            self._tick()

    def await_(self, note: str, look: Callable[[], Found | None], seconds: float) -> Found | None:
        """Look again and again until something is found; None at the deadline."""
        end = time.monotonic() + seconds
        while (found := look()) is None and (left := end - time.monotonic()) > 0:
            self.view.note(self.number, f"{note} (at most {left:.0f} s more)")
            self._tick()
        return found

    def told(self, alertname: str, modality: str | None, since: datetime) -> Told | None:
        """The first alert of that name the on-call person was told of since then."""
        for alert in self.observer.told():
            if alert.alertname == alertname and modality in (None, alert.modality) and alert.detected_at >= since:
                return alert
        return None

    def switch(self, scenario: Scenario) -> datetime:
        """Change the traffic; everything already produced by then belongs to the old scenario."""
        return self.traffic.switch(scenario)

    def _tick(self) -> None:
        if self.traffic.error is not None:
            raise self.traffic.error
        for program in self.programs:
            program.check()
        time.sleep(TICK_SECONDS)


def detect(stage: Stage, result: StepResult, alertname: str, modality: str | None, seconds: float) -> Told | None:
    """Wait until the on-call person is told, and put it into the step's record."""
    since = result.injected_at or datetime.now(UTC)
    found = stage.await_(f"waiting for {alertname}", lambda: stage.told(alertname, modality, since), seconds)
    result.expect(f"{alertname} reaches the on-call person", found is not None, found or "nothing")
    if found is not None:
        result.detected_at, result.severity = found.detected_at, found.severity
        result.alert, result.modality = found.alertname, found.modality
        after = (found.detected_at - since).total_seconds()
        stage.view.say(
            f"on-call told: {found.severity} {found.alertname} ({found.modality}) after {after:.0f} s", "yellow"
        )
    return found


def resolve(stage: Stage, result: StepResult) -> None:
    """Wait until the on-call person is told that it is over."""
    if result.alert is None or result.injected_at is None:
        return
    alertname, modality, since = result.alert, result.modality, result.injected_at

    def ended() -> Told | None:
        alert = stage.told(alertname, modality, since)
        return alert if alert is not None and alert.resolved_at is not None else None

    found = stage.await_(f"waiting for {alertname} to resolve", ended, stage.pace.at_most)
    over = f"{found.resolved_at:%H:%M:%S}" if found else "still firing"
    result.expect(f"{alertname} resolves by itself", found is not None, over)
    if found is not None:
        result.resolved_at = found.resolved_at
        stage.view.say(f"resolved: {alertname} ({modality})", "green")

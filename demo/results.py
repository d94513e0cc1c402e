"""What the story ends in: one record a step, totals, and whether every expectation held."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from demo.ledger import Totals


@dataclass(frozen=True, slots=True)
class Expectation:
    """Something that had to hold, whether it did, and what was found."""

    text: str
    met: bool
    found: str


@dataclass(slots=True)
class StepResult:
    """One step of the story. Times are the injection's own and those at which the on-call person was told."""

    step: int
    title: str
    injected_at: datetime | None = None
    detected_at: datetime | None = None
    alert: str | None = None
    severity: str | None = None
    modality: str | None = None
    resolved_at: datetime | None = None
    expectations: list[Expectation] = field(default_factory=list)

    def expect(self, text: str, met: bool, found: object) -> None:
        """Record an expectation and its outcome."""
        self.expectations.append(Expectation(text, bool(met), str(found)))

    @property
    def met(self) -> bool:
        """Whether every expectation of this step held."""
        return all(expectation.met for expectation in self.expectations)


@dataclass(frozen=True, slots=True)
class Retrain:
    """The retrain's job and what labels said of the old and of the new version in production."""

    job_id: int
    accuracy_before: float
    accuracy_after: float
    ece_before: float
    ece_after: float


@dataclass(slots=True)
class Results:
    """The whole run."""

    steps: list[StepResult] = field(default_factory=list)
    totals: Totals | None = None
    retrain: Retrain | None = None
    false_alerts: int = 0

    @property
    def met(self) -> bool:
        """Whether every expectation of every step held and no alert was false."""
        return bool(self.steps) and all(step.met for step in self.steps) and self.false_alerts == 0

    def to_json(self) -> dict[str, Any]:
        """As it is written to a file."""
        return {
            "passed": self.met,
            "steps": [{**asdict(step), "passed": step.met} for step in self.steps],
            "totals": asdict(self.totals) if self.totals else None,
            "retrain": asdict(self.retrain) if self.retrain else None,
            "false_alerts": self.false_alerts,
        }

    def write(self, path: Path) -> None:
        """Write the JSON file."""
        path.write_text(json.dumps(self.to_json(), indent=2, default=_plain) + "\n", encoding="utf-8")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"not JSON: {type(value).__name__}")

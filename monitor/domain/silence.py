"""A silence: for how long, and of which alerts, nobody is told. A maintenance window is one that may match them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.errors import SilenceError

LONGEST = timedelta(days=30)
LABELS = ("alertname", "modality", "model_version", "severity")
LONGEST_TEXT = 500


class Kind(StrEnum):
    """A silence names alerts; a maintenance window may be of all of them."""

    SILENCE = "silence"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class Silence:
    """Holds back alerts whose labels equal every matcher, from `start` (included) to `end`. Times have a zone."""

    silence_id: int
    kind: Kind
    matchers: Mapping[str, str]
    start: datetime
    end: datetime
    owner: str
    reason: str

    def holds(self, labels: Mapping[str, str], now: datetime) -> bool:
        """Whether an alert with these labels is held back now."""
        return self.start <= now < self.end and all(labels.get(name) == value for name, value in self.matchers.items())


@dataclass(frozen=True, slots=True)
class Draft:
    """A silence that somebody wants."""

    kind: Kind
    matchers: Mapping[str, str]
    start: datetime
    end: datetime
    owner: str
    reason: str

    def check(self, now: datetime) -> None:
        """Raises SilenceError with what is wrong and what is allowed."""
        unknown = sorted(set(self.matchers) - set(LABELS))
        if unknown:
            raise SilenceError(f"matchers: {', '.join(unknown)} cannot be matched; {', '.join(LABELS)} can")
        if not self.matchers and self.kind is Kind.SILENCE:
            raise SilenceError(
                f"matchers: a silence needs one of {', '.join(LABELS)}; a maintenance window may do without"
            )
        empty = sorted(name for name, value in self.matchers.items() if not value)
        if empty:
            raise SilenceError(f"matchers: {', '.join(empty)} must equal something, not an empty text")
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment.tzinfo is None:
                raise SilenceError(f"{name}: {moment.isoformat()} needs a time zone, as 2026-11-01T00:00Z")
        if self.end <= self.start:
            raise SilenceError("end: it must be later than the start")
        if self.end <= now:
            raise SilenceError("end: it has passed already")
        if self.end - self.start > LONGEST:
            raise SilenceError(f"end: a silence lasts {LONGEST.days} days at most")
        for name, text in (("owner", self.owner), ("reason", self.reason)):
            if not text.strip() or len(text) > LONGEST_TEXT or "\0" in text:
                raise SilenceError(f"{name}: it needs 1 to {LONGEST_TEXT} characters, none of them NUL")

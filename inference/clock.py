"""Clocks of others: how far they may be off before what they say is not believed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class ClockTolerance:
    """How far a producer's clock may be off before its rows are kept out of windows."""

    future: timedelta = timedelta(minutes=5)
    past: timedelta = timedelta(hours=24)

    def quarantine(self, produced_at: datetime, received_at: datetime) -> str | None:
        """The reason to keep a row out of windows, or None."""
        if self.ahead(produced_at, received_at):
            return "produced_in_future"
        if produced_at < received_at - self.past:
            return "produced_too_old"
        return None

    def ahead(self, told: datetime, received_at: datetime) -> bool:
        """Whether a time lies further in the future than clocks may be apart."""
        return told > received_at + self.future

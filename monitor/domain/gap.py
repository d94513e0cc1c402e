"""Offset gaps: places of a topic's log where a consumer could not go on reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

NAMED = 5  # gaps that a sentence names; more are counted


@dataclass(frozen=True, slots=True)
class OffsetGap:
    """A stored next offset that the log did not have: reading went on at `resumed`.

    `lost` counts the offsets skipped: messages that left the log unread. It is 0 where the log was reset: its topic was
    `made_anew`, as its id tells, or it ended before the stored offset.
    """

    group: str
    topic: str
    partition: int
    stored: int
    resumed: int
    lost: int
    detected_at: datetime
    made_anew: bool = False

    @property
    def where(self) -> str:
        """E.g. `fusion.requests[0]`."""
        return f"{self.topic}[{self.partition}]"


def losses(gaps: Sequence[OffsetGap]) -> str:
    """One sentence about gaps that lost messages, the largest first."""
    total = sum(gap.lost for gap in gaps)
    parts = [
        f"{gap.where} from offset {gap.stored} to {gap.resumed - 1}, group {gap.group}"
        for gap in sorted(gaps, key=lambda gap: (-gap.lost, gap.where))
    ]
    return f"{total} message{'s' if total != 1 else ''} left the log before being read: {_listed(parts)}."


def resets(gaps: Sequence[OffsetGap]) -> str:
    """A sentence about logs that start again for each way in which they do."""
    anew = [gap for gap in gaps if gap.made_anew]
    ends = [gap for gap in gaps if not gap.made_anew]
    said = {"The topic was deleted and made anew": anew}
    said["The log ends before what had been read of it, as after its topic was made anew"] = ends
    return " ".join(f"{how}: {_listed(_places(found))}." for how, found in said.items() if found)


def _places(gaps: Sequence[OffsetGap]) -> list[str]:
    return [
        f"{gap.where} had been read to offset {gap.stored} and goes on at {gap.resumed}, group {gap.group}"
        for gap in sorted(gaps, key=lambda gap: gap.where)
    ]


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - NAMED
    return "; ".join([*parts[:NAMED], *([f"and {more} more"] if more > 0 else [])])

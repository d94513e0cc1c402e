"""When what happens in the seeded hour."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

DAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 12, 30, 7, tzinfo=UTC)
MODEL, VERSION, OLD_VERSION = "fusion", "fusion-2026.03.02-7f3c", "fusion-2026.02.11-a01b"
CLASSES = ["consistent", "contradictory", "misleading"]
SLOT = 10
RATE = 4
TIMING: dict[str, Any] = {
    "slot_seconds": SLOT,
    "hop_seconds": 30,
    "window_seconds": 60,
    "availability_window_seconds": 30,
    "grace_seconds": 2,
}


def at(clock: str) -> datetime:
    """A time of the seeded day, `12:03` or `12:03:20`, in UTC."""
    return datetime.combine(DAY, datetime.min.time(), UTC) + timedelta(
        seconds=sum(int(part) * size for part, size in zip(clock.split(":"), (3600, 60, 1), strict=False))
    )


def image_gone(moment: datetime, outage: bool) -> bool:
    return at("11:58") <= moment < at("12:03") or (outage and moment >= at("12:27"))


def new_camera(moment: datetime) -> bool:
    return moment >= at("12:12")

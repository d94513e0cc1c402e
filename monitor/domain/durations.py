"""Lengths of time as people write them: `5m`, `6h`, `3d`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}
_NAMES = {"d": "day", "h": "hour", "m": "minute", "s": "second"}


def parse(text: str) -> timedelta:
    """The length that `30s`, `5m`, `6h` or `3d` means. Raises ValueError on anything else."""
    if not (found := re.fullmatch(r"([1-9]\d{0,6})([dhms])", text)):
        raise ValueError(f"{text!r} is no length of time: write whole seconds, minutes, hours or days, e.g. 5m, 6h, 3d")
    return int(found[1]) * _UNITS[found[2]]


def short(length: timedelta) -> str:
    """The length as `parse` reads it, in its largest whole unit; a day is `1d`, thirty minutes are `30m`."""
    number, unit = _whole(length)
    return f"{number}{unit}"


def in_words(length: timedelta) -> str:
    """`hour`, `30 minutes`, `3 days`: what stands after "in the last"."""
    number, unit = _whole(length)
    return _NAMES[unit] if number == 1 else f"{number} {_NAMES[unit]}s"


def _whole(length: timedelta) -> tuple[int, str]:
    for unit, size in _UNITS.items():
        if length >= size and length % size == timedelta(0):
            return length // size, unit
    raise ValueError(f"{length} is no whole number of seconds above zero")

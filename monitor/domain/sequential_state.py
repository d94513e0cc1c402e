"""A series' memory as plain JSON, with the version of its layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from monitor.domain.season import Season
from monitor.domain.sequential import VERSION, Alarm, Path, Series


class StateError(ValueError):
    """A stored state cannot be read; the text says why. The series then starts anew."""


def dump(series: Series) -> dict[str, Any]:
    """The state as JSON values; `load` gives it back exactly."""
    return {"version": VERSION, **asdict(series)}


def load(state: Mapping[str, Any]) -> Series:
    """The series that was dumped. Raises StateError on another version's layout or on one that is broken."""
    if state.get("version") != VERSION:
        raise StateError(f"the state has layout {state.get('version')!r}, this version reads {VERSION}")
    try:
        return Series(
            first=int(state["first"]),
            both_ways=bool(state["both_ways"]),
            history=tuple((int(number), int(hour), float(value)) for number, hour, value in state["history"]),
            season=_season(state["season"]),
            reference=tuple(float(each) for each in state["reference"]),
            last=None if state["last"] is None else (int(state["last"][0]), float(state["last"][1])),
            paths=tuple(Path(**each) for each in state["paths"]),
            alarm=None if state["alarm"] is None else Alarm(**state["alarm"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise StateError(f"the state is broken: {error!r}") from error


def _season(state: Mapping[str, Any] | None) -> Season | None:
    return None if state is None else Season(**{**state, "profile": tuple(float(each) for each in state["profile"])})

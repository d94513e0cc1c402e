"""What a trainer hands in of a candidate, as the gate reads it."""

from __future__ import annotations

import copy
from typing import Any

_SHARES = {"a": 0.9, "b": 0.9}


def _model(version: str, accuracy: float, ece: float, text: float) -> dict[str, Any]:
    by_class = {name: {"accuracy": accuracy, "n": 100} for name in _SHARES}
    return {
        "version": version,
        "accuracy": accuracy,
        "ece": ece,
        "n": 200,
        "by_pattern": {"fused": {"accuracy": accuracy, "n": 200}, "text": {"accuracy": text, "n": 200}},
        "by_class": by_class,
        "reliance": {"image": 0.3, "text": 0.2},
        "latency_ms": 20.0,
    }


def _only(champion: int, candidate: int) -> dict[str, int]:
    return {"only_champion_right": champion, "only_candidate_right": candidate}


RESULT: dict[str, Any] = {
    "champion": _model("v1", 0.6, 0.3, 0.47),
    "candidate": _model("v2", 0.9, 0.03, 0.45),
    "paired": {
        **_only(5, 65),
        "class": {"a": _only(2, 32), "b": _only(3, 33)},
        "pattern": {"fused": _only(5, 65), "text": _only(14, 10)},
    },
}


def changed(**figures: Any) -> dict[str, Any]:
    """RESULT with `candidate__accuracy=...` and the like replaced."""
    result = copy.deepcopy(RESULT)
    for path, value in figures.items():
        *parents, last = path.split("__")
        place = result
        for name in parents:
            place = place[name]
        place[last] = value
    return result


def as_good(only_champion: int, only_candidate: int) -> dict[str, Any]:
    """RESULT with a champion that got 180 of the 200 rows right, and that many that only one of them did."""
    accuracy = (180 - only_champion + only_candidate) / 200
    fused = _only(only_champion, only_candidate)
    by_class = {"a": _only(only_champion, only_candidate), "b": _only(0, 0)}
    candidate_a = (90 - only_champion + only_candidate) / 100
    return changed(
        champion=_model("v1", 0.9, 0.03, 0.45),
        candidate__accuracy=accuracy,
        candidate__by_pattern__fused={"accuracy": accuracy, "n": 200},
        candidate__by_class__a={"accuracy": candidate_a, "n": 100},
        paired={**fused, "class": by_class, "pattern": {"fused": fused, "text": _only(0, 0)}},
    )

"""A challenger on its way: what a check says of shadow or canary, and the step that follows from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from monitor.domain.betting import above, below
from monitor.domain.intervals import wilson

Array = NDArray[np.float64]
SHADOW, CANARY = "shadow", "canary"
PROMOTED, ROLLED_BACK = "promoted", "rolled_back"


class Outcome(StrEnum):
    """Of a comparison or a check. `inconclusive` holds the rollout where it is."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Reason:
    """One comparison: its name, its outcome, and why, in words."""

    name: str
    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a challenger is held to beside the champion.

    `max_errors` more of its answers may be errors, `max_slowdown` times as long may a pass take, `max_disagreement` of
    the answers may differ in shadow (and as much may a class's share or, in canary, the share in which the heads agree
    differ), `max_drop` of accuracy may be lost. A canary's check needs `min_rows` of either version; accuracy is looked
    at from `min_labels` on, and `labels_needed` makes shadow wait for them. `alpha` is of one rollout's shadow.
    """

    min_rows: int = 200
    min_labels: int = 50
    labels_needed: bool = False
    alpha: float = 0.05
    max_errors: float = 0.01
    max_slowdown: float = 1.5
    max_disagreement: float = 0.3
    max_drop: float = 0.03
    z: float = 2.326  # one-sided 1%: a canary is looked at again and again, and fails by five checks in a row


@dataclass(frozen=True, slots=True)
class Shadowed:
    """N requests in shadow, in the order in which they were logged, and M labelled ones by when labels came.

    `failed` (N,) says that the challenger had no usable answer; `differs`, `slower` (more than `max_slowdown` times the
    champion's pass) and the class indices `champion` and `challenger` are those of the rest. `gained` (M,) is 1 where
    only the challenger was right, -1 where only the champion, else 0.
    """

    failed: Array
    differs: Array
    slower: Array
    champion: NDArray[np.intp]
    challenger: NDArray[np.intp]
    gained: Array


def check_shadow(seen: Shadowed, limits: Limits) -> tuple[Reason, ...]:
    """Every comparison by a test that may be looked at any time; the level is shared out among all of them."""
    classes = sorted({*np.unique(seen.champion).tolist(), *np.unique(seen.challenger).tolist()})
    alpha = limits.alpha / (4 + 2 * max(1, len(classes)))
    tolerated = limits.max_disagreement
    reasons = [
        _share("errors", seen.failed, limits.max_errors, alpha, "had no usable answer"),
        _share("disagreement", seen.differs, tolerated, alpha, "were answered otherwise"),
        _share("latency", seen.slower, 0.5, alpha, f"took more than {limits.max_slowdown:g} times as long"),
        _classes(seen, classes, tolerated, alpha),
    ]
    if len(seen.gained) >= limits.min_labels or limits.labels_needed:
        reasons.append(_accuracy(seen.gained, limits, alpha))
    return tuple(reasons)


def _share(name: str, values: Array, limit: float, alpha: float, words: str) -> Reason:
    text = f"{int(values.sum())} of {len(values)} {words}, limit {limit:.0%}"
    if above(values, limit, alpha):
        return Reason(name, Outcome.FAILED, text)
    return Reason(name, Outcome.PASSED if below(values, limit, alpha) else Outcome.INCONCLUSIVE, text)


def _classes(seen: Shadowed, classes: Sequence[int], limit: float, alpha: float) -> Reason:
    """Drift of the answers: a class that the challenger gives more or less often, on the same rows."""
    moved = []
    for each in classes:
        gap = (seen.challenger == each).astype(np.float64) - (seen.champion == each)
        if any(above((1 + way * gap) / 2, (1 + limit) / 2, alpha) for way in (1, -1)):
            moved.append(f"class {each} by {gap.mean():+.1%}")
    text = f"shares of answers moved: {', '.join(moved)}" if moved else "no class's share moved beyond the limit"
    return Reason("drift", Outcome.FAILED if moved else Outcome.PASSED, text)


def _accuracy(gained: Array, limits: Limits, alpha: float) -> Reason:
    scaled = (1 + gained) / 2
    text = f"{int((gained > 0).sum())} labelled answers got better, {int((gained < 0).sum())} worse, of {len(gained)}"
    limit = (1 - limits.max_drop) / 2
    if below(scaled, 0.5, alpha):
        return Reason("accuracy", Outcome.FAILED, text)
    return Reason("accuracy", Outcome.PASSED if above(scaled, limit, alpha) else Outcome.INCONCLUSIVE, text)


@dataclass(frozen=True, slots=True)
class Answered:
    """What one version answered: rows, errors among them, p95 of a pass in ms; of the rest (count, of so many)."""

    rows: int
    errors: int
    p95_ms: float
    agreed: tuple[int, int] = (0, 0)
    right: tuple[int, int] = (0, 0)


def check_canary(
    champion: Answered, challenger: Answered, complaints: Iterable[str], limits: Limits
) -> tuple[Reason, ...]:
    """What was answered since the last check, beside what the champion answered; `complaints` are workers' of it."""
    failed = [Reason("workers", Outcome.FAILED, each) for each in complaints]
    short = min(champion.rows, challenger.rows)
    if short < limits.min_rows:
        text = f"{challenger.rows} answers, and {champion.rows} of the champion: {limits.min_rows} of each needed"
        return (*failed, Reason("rows", Outcome.INCONCLUSIVE, text))
    errors = (champion.errors, champion.rows), (challenger.errors, challenger.rows)
    reasons = [
        _rise("errors", *errors, limits.max_errors, limits.z),
        _latency(champion, challenger, limits),
    ]
    if min(champion.agreed[1], challenger.agreed[1]) >= limits.min_rows:
        against = _turned(champion.agreed), _turned(challenger.agreed)
        reasons.append(_rise("disagreement of heads", *against, limits.max_disagreement, limits.z))
    if min(champion.right[1], challenger.right[1]) >= limits.min_labels:
        against = _turned(champion.right), _turned(challenger.right)
        reasons.append(_rise("wrong answers", *against, limits.max_drop, limits.z))
    return (*failed, *reasons)


def _turned(share: tuple[int, int]) -> tuple[int, int]:
    return share[1] - share[0], share[1]


def _rise(name: str, before: tuple[int, int], after: tuple[int, int], limit: float, z: float) -> Reason:
    """Failed where the share surely rose by more than the limit.

    Square-and-add of Wilson's intervals: method 10 of Newcombe (1998), Statistics in Medicine 17:873.
    """
    low, _ = wilson(*after, z)
    _, high = wilson(*before, z)
    first, second = before[0] / before[1], after[0] / after[1]
    least = second - first - math.hypot(second - low, high - first)
    text = f"{second:.2%} against {first:.2%}, a rise of {least:+.2%} at least, limit {limit:.2%}"
    return Reason(name, Outcome.FAILED if least > limit else Outcome.PASSED, text)


def _latency(champion: Answered, challenger: Answered, limits: Limits) -> Reason:
    slow = challenger.p95_ms > champion.p95_ms * limits.max_slowdown
    text = f"p95 of a pass {challenger.p95_ms:.1f} ms against {champion.p95_ms:.1f} ms"
    return Reason("latency", Outcome.FAILED if slow else Outcome.PASSED, text)


def overall(reasons: Iterable[Reason]) -> Outcome:
    """`failed` where one failed, else `inconclusive` where one could not tell."""
    outcomes = {reason.outcome for reason in reasons}
    return next((each for each in (Outcome.FAILED, Outcome.INCONCLUSIVE) if each in outcomes), Outcome.PASSED)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rollout is: its stage, its percent, and its checks in a row."""

    stage: str
    percent: int
    failed: int = 0
    passed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages that a candidate passes after the gate, and how many checks decide.

    Shadow is ended by its test, at once either way. A step of the canary takes `passes` checks; `failures` in a row end
    it.
    """

    stages: tuple[str, ...] = ()
    shadow_percent: int = 10
    steps: tuple[int, ...] = field(default=(10, 50, 100))
    passes: int = 3
    failures: int = 5

    def first(self) -> Place | None:
        """Where a rollout begins; None where a candidate is promoted from the gate."""
        if SHADOW in self.stages:
            return Place(SHADOW, self.shadow_percent)
        return Place(CANARY, self.steps[0]) if CANARY in self.stages else None

    def follow(self, place: Place, outcome: Outcome) -> Place | str:
        """The next place, or how the rollout ends: PROMOTED or ROLLED_BACK."""
        if outcome is Outcome.INCONCLUSIVE:
            return place
        if place.stage == SHADOW:
            if outcome is Outcome.FAILED:
                return ROLLED_BACK
            return Place(CANARY, self.steps[0]) if CANARY in self.stages else PROMOTED
        if outcome is Outcome.FAILED:
            failed = place.failed + 1
            return ROLLED_BACK if failed >= self.failures else Place(CANARY, place.percent, failed, 0)
        if place.passed + 1 < self.passes:
            return Place(CANARY, place.percent, 0, place.passed + 1)
        higher = [step for step in self.steps if step > place.percent]
        return Place(CANARY, higher[0]) if higher else PROMOTED

"""A retrain job's states, and decisions with their conditions: the policy's and the gate's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class JobState(StrEnum):
    """`queued` waits for a trainer; `trained` waits for the gate; the rest says how it ended."""

    QUEUED = "queued"
    RUNNING = "running"
    TRAINED = "trained"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.TRAINED})

_NEXT: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.TRAINED, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.TRAINED: frozenset({JobState.PROMOTED, JobState.REJECTED, JobState.FAILED, JobState.CANCELLED}),
}


def may_become(state: JobState, new: JobState) -> bool:
    """Whether a job may go from one state to another. A finished job stays as it ended."""
    return new in _NEXT.get(state, frozenset())


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How long a job may take in all, how often a trainer may start it, and on how many labelled rows it trains."""

    deadline: timedelta
    max_attempts: int
    max_rows: int


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a decision: its name, whether it is met, and why, in words."""

    name: str
    met: bool
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, with every condition that was looked at."""

    retrain: bool
    conditions: tuple[Condition, ...]

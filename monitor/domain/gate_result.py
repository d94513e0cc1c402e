"""What a trained job brings to the gate: champion and candidate measured on the same rows, read from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monitor.domain.paired import Paired

RECENT, TEST = "recent", "test"
CLASS, PATTERN = "class", "pattern"


class ResultError(ValueError):
    """A trainer's result lacks a figure, or holds one that cannot be."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One model on n rows: accuracy and ECE in [0, 1], and (accuracy, n) by class and by presence pattern.

    `reliance` maps each modality to the mean confidence lost when it is another row's; `latency_ms` is the median pass.
    What an older trainer did not measure is empty or None.
    """

    version: str
    accuracy: float
    ece: float
    n: int
    by_pattern: Mapping[str, tuple[float, int]]
    by_class: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    reliance: Mapping[str, float] = field(default_factory=dict)
    latency_ms: float | None = None

    def slices(self, kind: str) -> Mapping[str, tuple[float, int]]:
        """(accuracy, n) by class or by pattern."""
        return self.by_class if kind == CLASS else self.by_pattern


@dataclass(frozen=True, slots=True)
class Compared:
    """Both models on one set of rows. `only` maps a slice to the rows that (champion, candidate) alone got right."""

    champion: Measured
    candidate: Measured
    only_champion_right: int
    only_candidate_right: int
    only: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    @property
    def paired(self) -> Paired:
        """All rows; the champion is the first."""
        n = self.champion.n
        both = round(self.champion.accuracy * n) - self.only_champion_right
        return Paired(n, both, self.only_champion_right, self.only_candidate_right)

    def paired_in(self, kind: str, name: str) -> Paired | None:
        """The rows of a slice; None where they were not paired."""
        only, found = self.only.get((kind, name)), self.champion.slices(kind).get(name)
        if only is None or found is None:
            return None
        accuracy, n = found
        return Paired(n, round(accuracy * n) - only[0], *only)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """`recent` is labelled traffic that the candidate was not trained on; `test` a frozen set, where there is one."""

    recent: Compared
    test: Compared | None = None

    @property
    def champion(self) -> str:
        """The version that was measured as champion."""
        return self.recent.champion.version

    @property
    def candidate(self) -> str:
        """The version that was trained."""
        return self.recent.candidate.version

    @property
    def sets(self) -> Mapping[str, Compared]:
        """By name."""
        return {RECENT: self.recent} | ({} if self.test is None else {TEST: self.test})


def parse_result(raw: object) -> TrainingResult:
    """Read `jobs.result`. Raises ResultError with what is wrong."""
    if not isinstance(raw, Mapping):
        raise ResultError("the result is not an object")
    recent = _compared(raw)
    test = None if raw.get("test") is None else _compared(raw["test"])
    if test is not None and _versions(test) != _versions(recent):
        raise ResultError(f"the test set measures {_versions(test)}, recent traffic {_versions(recent)}")
    return TrainingResult(recent, test)


def _versions(compared: Compared) -> tuple[str, str]:
    return compared.champion.version, compared.candidate.version


def _compared(raw: Mapping[str, Any]) -> Compared:
    try:
        paired = raw["paired"]
        compared = Compared(
            champion=_measured(raw["champion"]),
            candidate=_measured(raw["candidate"]),
            only_champion_right=int(paired["only_champion_right"]),
            only_candidate_right=int(paired["only_candidate_right"]),
            only={
                (kind, name): _pair(paired, kind, name) for kind in (CLASS, PATTERN) for name in paired.get(kind, ())
            },
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultError(f"the result is incomplete: {error!r}") from error
    if compared.candidate.n != compared.champion.n:
        raise ResultError(f"measured on different rows: {compared.candidate.n} and {compared.champion.n}")
    _check_counts(compared)
    return compared


def _check_counts(compared: Compared) -> None:
    """Counts of rows that one model alone got right must bridge the two accuracies."""
    fused = ((compared.candidate.accuracy, compared.candidate.n), ("all", ""))
    slices = ((compared.candidate.slices(kind).get(name), (kind, name)) for kind, name in compared.only)
    for figures, where in (fused, *slices):
        if figures is None:
            continue
        try:
            rows = compared.paired if where == ("all", "") else compared.paired_in(*where)
        except ValueError as error:
            raise ResultError(f"counts of rows do not fit in {' '.join(where)}: {error}") from error
        accuracy, n = figures
        if rows is not None and (n != rows.n or abs(rows.both + rows.only_second - accuracy * n) > 0.5):
            raise ResultError(f"counts of rows do not lead from one accuracy to the other in {' '.join(where).strip()}")


def _pair(paired: Mapping[str, Any], kind: str, name: str) -> tuple[int, int]:
    found = paired[kind][name]
    return int(found["only_champion_right"]), int(found["only_candidate_right"])


def _measured(raw: Mapping[str, Any]) -> Measured:
    latency = raw.get("latency_ms")
    measured = Measured(
        version=str(raw["version"]),
        accuracy=float(raw["accuracy"]),
        ece=float(raw["ece"]),
        n=int(raw["n"]),
        by_pattern=_slices(raw["by_pattern"]),
        by_class=_slices(raw.get("by_class", {})),
        reliance={name: float(lost) for name, lost in raw.get("reliance", {}).items()},
        latency_ms=None if latency is None else float(latency),
    )
    slices = [*measured.by_pattern.values(), *measured.by_class.values()]
    shares = [measured.accuracy, measured.ece, *(accuracy for accuracy, _ in slices)]
    if not all(0.0 <= share <= 1.0 for share in shares):  # false for NaN too
        raise ResultError(f"accuracy and ECE of {measured.version} must lie between 0 and 1: {shares}")
    if not all(-1.0 <= lost <= 1.0 for lost in measured.reliance.values()):
        raise ResultError(f"reliance of {measured.version} must lie between -1 and 1: {dict(measured.reliance)}")
    if measured.latency_ms is not None and not 0 < measured.latency_ms < float("inf"):
        raise ResultError(f"latency of {measured.version} must be above 0: {measured.latency_ms}")
    if min(measured.n, *(n for _, n in slices), 0) < 0:
        raise ResultError(f"rows of {measured.version} cannot be fewer than none")
    return measured


def _slices(raw: Mapping[str, Any]) -> dict[str, tuple[float, int]]:
    return {name: (float(one["accuracy"]), int(one["n"])) for name, one in raw.items()}

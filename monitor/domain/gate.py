"""The gate before promotion: candidate against champion, measured on the same held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

from monitor.domain.job import Condition, Decision


class ResultError(ValueError):
    """A trainer's result lacks a figure, or holds one that cannot be."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One model on the held-out rows: accuracy and ECE in [0, 1] over n rows, and (accuracy, n) by presence pattern."""

    version: str
    accuracy: float
    ece: float
    n: int
    by_pattern: Mapping[str, tuple[float, int]]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a trained job brings. The two counts are of held-out rows that exactly one of the models got right."""

    candidate: Measured
    champion: Measured
    only_champion_right: int
    only_candidate_right: int


@dataclass(frozen=True, slots=True)
class GateLimits:
    """`alpha` of the paired test; `max_ece`; `max_pattern_drop` in accuracy, looked at from `min_pattern_rows` on."""

    min_rows: int
    alpha: float
    max_ece: float
    max_pattern_drop: float
    min_pattern_rows: int


def parse_result(raw: object) -> TrainingResult:
    """Read `jobs.result`. Raises ResultError with what is wrong."""
    if not isinstance(raw, Mapping):
        raise ResultError("the result is not an object")
    try:
        paired = raw["paired"]
        result = TrainingResult(
            _measured(raw["candidate"]),
            _measured(raw["champion"]),
            int(paired["only_champion_right"]),
            int(paired["only_candidate_right"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultError(f"the result is incomplete: {error!r}") from error
    if result.candidate.n != result.champion.n:
        raise ResultError(f"measured on different rows: {result.candidate.n} and {result.champion.n}")
    if min(result.only_champion_right, result.only_candidate_right) < 0:
        raise ResultError("a count of rows is negative")
    return result


def _measured(raw: Mapping[str, Any]) -> Measured:
    patterns = {name: (float(one["accuracy"]), int(one["n"])) for name, one in raw["by_pattern"].items()}
    measured = Measured(str(raw["version"]), float(raw["accuracy"]), float(raw["ece"]), int(raw["n"]), patterns)
    shares = [measured.accuracy, measured.ece, *(accuracy for accuracy, _ in patterns.values())]
    if not all(0.0 <= share <= 1.0 for share in shares):  # false for NaN too
        raise ResultError(f"accuracy and ECE of {measured.version} must lie between 0 and 1: {shares}")
    return measured


def judge(result: TrainingResult, limits: GateLimits) -> Decision:
    """Whether the candidate may become champion. Every condition must hold."""
    conditions = (
        _enough_rows(result, limits),
        _not_worse(result, limits),
        _calibrated(result, limits),
        _no_pattern_collapsed(result, limits),
    )
    return Decision(all(condition.met for condition in conditions), conditions)


def _enough_rows(result: TrainingResult, limits: GateLimits) -> Condition:
    n = result.candidate.n
    return Condition("held_out_rows", n >= limits.min_rows, f"{n} held-out rows, {limits.min_rows} needed")


def _not_worse(result: TrainingResult, limits: GateLimits) -> Condition:
    """One-sided exact McNemar test on the discordant rows (McNemar 1947): may the candidate be called worse?"""
    b, c = result.only_champion_right, result.only_candidate_right
    p = float(binomtest(b, b + c, 0.5, alternative="greater").pvalue) if b + c else 1.0
    worse = p < limits.alpha
    text = (
        f"accuracy {result.candidate.accuracy:.3f} against {result.champion.accuracy:.3f}; "
        f"only one was right on {c} (candidate) and {b} (champion) rows, p = {p:.3g} that the candidate is not worse"
    )
    return Condition("accuracy", not worse, text)


def _calibrated(result: TrainingResult, limits: GateLimits) -> Condition:
    ece, before = result.candidate.ece, result.champion.ece
    met = ece <= limits.max_ece or ece <= before
    return Condition("calibration", met, f"ECE {ece:.3f} against {before:.3f}, limit {limits.max_ece:.3f}")


def _no_pattern_collapsed(result: TrainingResult, limits: GateLimits) -> Condition:
    collapsed = []
    for name, (before, n) in sorted(result.champion.by_pattern.items()):
        after, m = result.candidate.by_pattern.get(name, (0.0, 0))
        if n >= limits.min_pattern_rows and (m == 0 or after < before - limits.max_pattern_drop):
            collapsed.append(f"{name}: {before:.3f} to {after:.3f}" if m else f"{name}: not measured")
    text = f"collapsed: {'; '.join(collapsed)}" if collapsed else "no presence pattern collapsed"
    return Condition("presence_patterns", not collapsed, text)

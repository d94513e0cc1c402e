"""The gate before promotion: candidate against champion, measured on the same rows that neither was trained on.

Every check has to pass. One that fails, or for which there is too little data, keeps the candidate out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist

from monitor.domain.gate_result import CLASS, PATTERN, RECENT, Compared, Measured, TrainingResult
from monitor.domain.intervals import share_interval
from monitor.domain.paired import difference_interval, p_second_worse


class Outcome(StrEnum):
    """Of one check or of all; `insufficient` says that the data cannot tell, and is no pass."""

    PASSED = "passed"
    FAILED = "failed"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, its outcome, and why, in words."""

    name: str
    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: both models' figure on n rows, and the interval of what the candidate gains, if known."""

    set: str
    figure: str
    n: int
    champion: float
    candidate: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks, and the table that they are made from."""

    checks: tuple[Check, ...]
    table: tuple[Row, ...]

    @property
    def outcome(self) -> Outcome:
        """`failed` where one check failed, else `insufficient` where one could not tell."""
        outcomes = {check.outcome for check in self.checks}
        return next((each for each in (Outcome.FAILED, Outcome.INSUFFICIENT) if each in outcomes), Outcome.PASSED)


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What a candidate is held to.

    `max_drop` in accuracy must be ruled out at level `alpha` on all rows. On the rows of one class or presence pattern
    it must not be shown, nor may the figure itself fall by more than `max_slice_drop` where chance at that level does
    not explain a fall: of 36 rows 4 are more than a tenth. `max_ece` holds unless the champion's is worse. A pass may
    take `max_slowdown` times the champion's. A modality must be worth `min_reliance` of confidence, unless it is worth
    less to the champion. `required` sets must be there; others are judged if they are.
    """

    min_rows: int
    alpha: float
    max_drop: float
    max_ece: float
    max_slice_drop: float
    min_slice_rows: int
    max_slowdown: float = 1.5
    min_reliance: float = 0.01
    required: tuple[str, ...] = field(default=(RECENT,))


def judge(result: TrainingResult, limits: GateLimits) -> Verdict:
    """Whether the candidate may go on."""
    checks = [
        Check(f"{name}_set", Outcome.INSUFFICIENT, f"the trainer measured no {name} set")
        for name in limits.required
        if name not in result.sets
    ]
    for name, compared in result.sets.items():
        prefix = "" if name == RECENT else f"{name}_"
        checks += [
            Check(prefix + each.name, each.outcome, each.text)
            for each in (
                _rows(compared, limits),
                _not_worse(compared, limits),
                _calibrated(compared, limits),
                _slices(compared, CLASS, limits),
                _slices(compared, PATTERN, limits),
            )
        ]
    checks += [_latency(result.recent, limits), _reliance(result.recent, limits)]
    table = tuple(row for name, compared in result.sets.items() for row in _table(name, compared, limits))
    return Verdict(tuple(checks), table)


def _rows(compared: Compared, limits: GateLimits) -> Check:
    n = compared.candidate.n
    outcome = Outcome.PASSED if n >= limits.min_rows else Outcome.INSUFFICIENT
    return Check("held_out_rows", outcome, f"{n} held-out rows, {limits.min_rows} needed")


def _z(limits: GateLimits) -> float:
    """Of a two-sided interval whose lower end alone is wrong with probability alpha."""
    return NormalDist().inv_cdf(1 - limits.alpha)


def _not_worse(compared: Compared, limits: GateLimits) -> Check:
    """Worse by McNemar's test fails; a drop that the interval cannot rule out is not enough to go on."""
    rows = compared.paired
    if rows.n == 0:
        return Check("accuracy", Outcome.INSUFFICIENT, "no rows")
    p = p_second_worse(rows)
    low, high = difference_interval(rows, _z(limits))
    ruled_out = low >= -limits.max_drop
    outcome = Outcome.FAILED if p < limits.alpha else Outcome.PASSED if ruled_out else Outcome.INSUFFICIENT
    text = (
        f"accuracy {compared.candidate.accuracy:.3f} against {compared.champion.accuracy:.3f}, a gain between "
        f"{low:+.3f} and {high:+.3f}; only one was right on {rows.only_second} (candidate) and {rows.only_first} "
        f"(champion) rows, p = {p:.3g} that the candidate is not worse"
    )
    if outcome is Outcome.INSUFFICIENT:
        text += f"; a drop of more than {limits.max_drop:.3f} cannot be ruled out"
    return Check("accuracy", outcome, text)


def _calibrated(compared: Compared, limits: GateLimits) -> Check:
    ece, before = compared.candidate.ece, compared.champion.ece
    outcome = Outcome.PASSED if ece <= limits.max_ece or ece <= before else Outcome.FAILED
    return Check("calibration", outcome, f"ECE {ece:.3f} against {before:.3f}, limit {limits.max_ece:.3f}")


def _slices(compared: Compared, kind: str, limits: GateLimits) -> Check:
    """Every class, or every presence pattern, that either model was measured on.

    A pattern of which the champion cannot tell the class has nothing to lose, and says so.
    """
    name = "classes" if kind == CLASS else "presence_patterns"
    champion, candidate = compared.champion.slices(kind), compared.candidate.slices(kind)
    known = sorted(champion.keys() | candidate.keys())
    if not known:
        return Check(name, Outcome.INSUFFICIENT, f"no {kind} was measured")
    z = NormalDist().inv_cdf(1 - limits.alpha / len(known))  # Bonferroni over slices
    fallen, short, nothing, chance = [], [], [], []
    for each in known:
        (before, n), (after, m) = champion.get(each, (0.0, 0)), candidate.get(each, (0.0, 0))
        rows = compared.paired_in(kind, each)
        fell, moved = after < before - limits.max_slice_drop, f"{each}: {before:.3f} to {after:.3f}"
        if min(n, m) < limits.min_slice_rows:
            short.append(f"{each}: {min(n, m)} rows")
        elif kind == PATTERN and not _beats_one_answer(compared.champion, before, n, limits):
            nothing.append(f"{each}: {before:.3f}")
        elif rows is not None and difference_interval(rows, z)[1] < -limits.max_drop:
            fallen.append(moved)
        elif fell and rows is not None and difference_interval(rows, _z(limits))[1] >= 0:
            chance.append(f"{moved} of {n} rows")
        elif fell:
            fallen.append(moved)
    if fallen:
        return Check(name, Outcome.FAILED, f"worse: {'; '.join(fallen)}")
    if short:
        text = f"fewer than {limits.min_slice_rows} rows: {'; '.join(short)}"
        return Check(name, Outcome.INSUFFICIENT, text)
    told = {
        f"none {'is shown to have ' if chance else ''}lost more than {limits.max_slice_drop:.3f}": known,
        "; not beyond chance": chance,
        "; of no use to the champion": nothing,
    }
    return Check(name, Outcome.PASSED, "".join(f"{what}: {', '.join(which)}" for what, which in told.items() if which))


def _beats_one_answer(champion: Measured, accuracy: float, rows: int, limits: GateLimits) -> bool:
    """Whether it is shown to be right more often than the most frequent class alone would be, the no-information rate.

    Below it, which class a model falls back to makes all the difference, and means nothing. Source of the comparison:
    Kuhn (2008), Journal of Statistical Software 28(5).
    """
    counts = [n for _, n in champion.by_class.values()]
    return not counts or share_interval(accuracy, rows, _z(limits))[0] > max(counts) / sum(counts)


def _latency(compared: Compared, limits: GateLimits) -> Check:
    before, after = compared.champion.latency_ms, compared.candidate.latency_ms
    if before is None or after is None:
        return Check("latency", Outcome.INSUFFICIENT, "the trainer measured no latency")
    outcome = Outcome.PASSED if after <= before * limits.max_slowdown else Outcome.FAILED
    text = f"a pass takes {after:.1f} ms against {before:.1f} ms, limit {limits.max_slowdown:g} times as long"
    return Check("latency", outcome, text)


def _reliance(compared: Compared, limits: GateLimits) -> Check:
    """A candidate that looks at one modality alone may score well until that one fails."""
    before, after = compared.champion.reliance, compared.candidate.reliance
    if not after or after.keys() != before.keys():
        return Check("reliance", Outcome.INSUFFICIENT, "what each modality contributes was not measured of both")
    ignored = [
        f"{name} ({after[name]:.3f}, the champion's {before[name]:.3f})"
        for name in sorted(after)
        if len(after) > 1 and after[name] < min(limits.min_reliance, before[name])
    ]
    if ignored:
        return Check("reliance", Outcome.FAILED, f"the candidate ignores {', '.join(ignored)}")
    told = ", ".join(f"{name} {lost:.3f}" for name, lost in sorted(after.items()))
    return Check("reliance", Outcome.PASSED, f"confidence lost without each modality: {told}")


def _table(name: str, compared: Compared, limits: GateLimits) -> Iterator[Row]:
    champion, candidate, n = compared.champion, compared.candidate, compared.champion.n
    if n:
        interval = difference_interval(compared.paired, _z(limits))
        yield Row(name, "accuracy", n, champion.accuracy, candidate.accuracy, *interval)
    yield Row(name, "ece", n, champion.ece, candidate.ece)
    for kind in (CLASS, PATTERN):
        for each, (before, rows) in sorted(champion.slices(kind).items()):
            after, _ = candidate.slices(kind).get(each, (0.0, 0))
            paired = compared.paired_in(kind, each)
            low, high = difference_interval(paired, _z(limits)) if paired is not None and paired.n else (None, None)
            yield Row(name, f"accuracy, {kind} {each}", rows, before, after, low, high)
    yield from _others(name, champion, candidate)


def _others(name: str, champion: Measured, candidate: Measured) -> Iterator[Row]:
    for modality in sorted(champion.reliance.keys() & candidate.reliance.keys()):
        yield Row(
            name, f"reliance on {modality}", champion.n, champion.reliance[modality], candidate.reliance[modality]
        )
    if champion.latency_ms is not None and candidate.latency_ms is not None:
        yield Row(name, "latency in ms", champion.n, champion.latency_ms, candidate.latency_ms)

"""Service level objectives: good events out of valid ones, held against a target, and how fast that uses the budget up.

An SLI counts events: `valid` ones, and the `good` among them. Counts add over any split of time; percentiles do not and
are never averaged. A target of 0.99 leaves an error budget of 0.01 of the events of 30 days; the burn rate is the bad
share divided by that, so that 1 uses up the budget exactly in its time. A rule fires where the burn rate of a long
window exceeds its factor (enough was lost to matter) and that of a short one does too (it still goes on).

Source: Beyer et al. (2018), The Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".

>>> from datetime import timedelta
>>> burn_rate(Counts(good=920, valid=1000), 0.99)
8.0
>>> BurnRule(20, timedelta(hours=1), timedelta(minutes=5), "page").reachable(0.9)
False
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from monitor.domain import durations
from monitor.domain.finding import Verdict
from monitor.domain.signals import PAGE, TICKET

BUDGET = timedelta(days=30)  # what an error budget lasts for
NOW = timedelta(hours=1)  # what "now" means for the share that is shown
LOW_TRAFFIC = timedelta(hours=6)  # over which the absolute count is taken
SEVERITIES = (PAGE, TICKET)


@dataclass(frozen=True, slots=True)
class Counts:
    """`good` of `valid` events. Raises ValueError unless 0 <= good <= valid."""

    good: int = 0
    valid: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.good <= self.valid:
            raise ValueError(f"{self.good} good events of {self.valid} cannot be")

    @property
    def bad(self) -> int:
        """Events that were not good."""
        return self.valid - self.good

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.good + other.good, self.valid + other.valid)


def total(parts: Iterable[Counts]) -> Counts:
    """The counts of all parts' events."""
    good = valid = 0
    for part in parts:
        good, valid = good + part.good, valid + part.valid
    return Counts(good, valid)


def allowed(target: float) -> float:
    """The share of events that may be bad; without the last digits that the subtraction leaves behind."""
    return round(1 - target, 12)


def burn_rate(counts: Counts, target: float) -> float | None:
    """How many times too fast the budget is used up; None without events."""
    return counts.bad / (counts.valid * allowed(target)) if counts.valid else None


def budget_left(counts: Counts, target: float) -> float | None:
    """The share of the budget that the events of its time have left, below 0 where it is overdrawn; None without."""
    burnt = burn_rate(counts, target)
    return None if burnt is None else 1 - burnt


@dataclass(frozen=True, slots=True)
class BurnRule:
    """Fires with `severity` where both windows burn more than `factor` times too fast.

    Raises ValueError unless factor > 0 and short < long <= 30 days.
    """

    factor: float
    long: timedelta
    short: timedelta
    severity: str

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise ValueError(f"the factor of a burn rate must be above 0, not {self.factor:g}")
        if not timedelta(0) < self.short < self.long <= BUDGET:
            raise ValueError(
                f"a rule needs a short window below its long one, and that of 30 days at most: not {self.long} and "
                f"{self.short}"
            )
        if self.severity not in SEVERITIES:
            raise ValueError(f"a rule's severity is one of {list(SEVERITIES)}, not {self.severity!r}")

    def __str__(self) -> str:
        windows = f"{durations.short(self.long)} and {durations.short(self.short)}"
        return f"{self.severity} above {self.factor:g} over {windows}"

    def reachable(self, target: float) -> bool:
        """Whether events that are all bad would fire it: no rate is above 1 / (1 - target)."""
        return self.factor < 1 / allowed(target)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict takes: so many events, and so many bad ones, in a rule's long window.

    Where even LOW_TRAFFIC holds fewer than `min_events`, `low_traffic_bad` bad ones in it are a ticket.
    """

    min_events: int = 100
    min_bad: int = 10
    low_traffic_bad: int = 10


@dataclass(frozen=True, slots=True)
class Slo:
    """An objective. `sli` says what is counted, `of` what its alerts are about: a modality, or the objective itself.

    `watched`: a detector judges the same by windows, and is to be first to tell. `subject`, `events` and `wrong` are
    words: "Text availability", 3 "requests" "came without text". Raises ValueError where the target leaves no budget,
    or a rule could never fire.
    """

    name: str
    sli: str
    of: str
    target: float
    rules: tuple[BurnRule, ...]
    subject: str
    events: str
    wrong: str
    watched: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError(f"a target lies between 0 and 1, both left out, not {self.target:g}")
        if not self.rules:
            raise ValueError("an objective needs a rule; switch it off where nothing is to fire")
        for rule in self.rules:
            if not rule.reachable(self.target):
                raise ValueError(
                    f"the rule '{rule}' can never fire: at a target of {self.target:.6g} events that are all bad burn "
                    f"{1 / allowed(self.target):.4g} times too fast, and no faster; lower its factor, raise the "
                    "target, or give this objective rules of its own"
                )

    @property
    def windows(self) -> frozenset[timedelta]:
        """Every window that is looked at."""
        return frozenset({BUDGET, NOW, LOW_TRAFFIC, *(w for rule in self.rules for w in (rule.long, rule.short))})


@dataclass(frozen=True, slots=True)
class Reading:
    """One rule over its windows. `burning`: by the rates alone; `verdict`: with the evidence that it takes."""

    rule: BurnRule
    long: Counts
    short: Counts
    burning: bool
    verdict: Verdict


def read(rule: BurnRule, target: float, counts: Mapping[timedelta, Counts], evidence: Evidence) -> Reading:
    """What a rule says of windows' counts.

    A short window without events cannot say that it is over: the rule goes on burning, and is `insufficient`.
    """
    long, short = counts[rule.long], counts[rule.short]
    rates = burn_rate(long, target), burn_rate(short, target)
    if rates[0] is None:
        return Reading(rule, long, short, burning=False, verdict=Verdict.NO_DATA)
    burning = rates[0] > rule.factor and (rates[1] is None or rates[1] > rule.factor)
    enough = long.valid >= evidence.min_events
    if burning:
        enough = enough and long.bad >= evidence.min_bad and short.valid > 0
    verdict = Verdict.INSUFFICIENT if not enough else Verdict.DRIFT if burning else Verdict.OK
    return Reading(rule, long, short, burning, verdict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What some rules say together; `readings` are theirs.

    `reading` is the one that decides: of firing ones that of the largest factor. `low_traffic` are the counts that the
    rule of few events fires on, None where it does not. `settled`: nothing burns, however few the events are, so that
    what fired before is over.
    """

    verdict: Verdict
    reading: Reading | None
    settled: bool
    readings: tuple[Reading, ...] = ()
    low_traffic: Counts | None = None


def judge(slo: Slo, counts: Mapping[timedelta, Counts], evidence: Evidence, severity: str | None = None) -> Judgement:
    """Judge an objective by its rules of one severity, or by all of them; for tickets by the absolute count too.

    `counts` maps every window of the objective to its events.
    """
    readings = tuple(
        read(rule, slo.target, counts, evidence) for rule in slo.rules if severity in (None, rule.severity)
    )
    few = None
    if severity != PAGE and _fires_on_few(counts[LOW_TRAFFIC], slo.target, evidence):
        few = counts[LOW_TRAFFIC]
    verdict = Verdict.DRIFT if few else combine(readings)
    deciding = [each for each in readings if each.verdict is verdict]
    chosen = max(deciding, key=lambda each: each.rule.factor, default=None)
    quiet = verdict is Verdict.INSUFFICIENT and not any(each.burning for each in readings)
    return Judgement(verdict, chosen, verdict is Verdict.OK or quiet, readings, few)


def combine(readings: Iterable[Reading]) -> Verdict:
    """One verdict of several rules: one that fires decides; then one that burns on too little evidence.

    Windows end at one time, so that where one is empty nothing is known of now, whatever the longer ones say.
    """
    found = list(readings)
    verdicts = {each.verdict for each in found}
    if Verdict.DRIFT in verdicts:
        return Verdict.DRIFT
    if any(each.burning for each in found):
        return Verdict.INSUFFICIENT
    order = (Verdict.NO_DATA, Verdict.OK, Verdict.INSUFFICIENT)
    return next((verdict for verdict in order if verdict in verdicts), Verdict.NO_DATA)


def _fires_on_few(counts: Counts, target: float, evidence: Evidence) -> bool:
    burnt = burn_rate(counts, target)
    few = counts.valid < evidence.min_events
    return burnt is not None and few and counts.bad >= evidence.low_traffic_bad and burnt > 1

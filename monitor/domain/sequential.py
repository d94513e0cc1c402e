"""The sequential monitor: which small change has lasted too long to be chance, with a promise about false alarms.

Each series' residuals (see `season`) are ranked among its own earlier ones from windows in control. If nothing has
changed, the rank is uniform whatever the residual's distribution (a conformal p-value; Vovk, Gammerman, Shafer 2005).
A bet on a shift of d standard deviations then pays a Gaussian likelihood ratio,
   e = mean of exp(d z(p) - d²/2) over the p that the rank leaves open,   z(p) = Φ⁻¹(1 - p),
so that no random number decides about ties or between ranks, and the mean of e is 1 exactly. Evidence accumulates by
Shiryaev and Roberts, R ← (1 + R) · e, and is averaged over bets and series; an alarm at R ≥ windows / F starts anew.
As R minus the windows seen has no upward trend (an e-detector; Shin, Ramdas, Rinaldo 2024), a period of so many windows
brings at most F false alarms on average, however the series depend on each other. What an alarm must show beside
(`CREDIBLE`, `floors`) only holds alarms back.

Windows are known by their number. A window in which a series has no value leaves it as it is.

>>> plan = Plan(calibration=24)
>>> series = Series(first=0)
>>> for number in range(40):
...     series = push(series, number, hour=number % 24, value=float(number * 7 % 11), in_control=True, plan=plan)
>>> series.calibrated, len(series.reference)
(True, 40)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from monitor.domain.season import Season, fit

Array = NDArray[np.float64]
Key = TypeVar("Key")
VERSION = 1  # of the state as it is stored
MOST = 1e12  # evidence beyond it says no more, and must not overflow
# An alarm names a series whose own path since the change's start shows at least this much evidence.
CREDIBLE = math.log(20)
# A change is over when a bet on it has lost so much again; while it lasts, that comes once in 50 windows at the most.
OVER = math.log(50)


@dataclass(frozen=True, slots=True)
class Plan:
    """`calibration` windows are learnt from; the newest `reference` residuals are kept; `shifts` are bet on, in sd."""

    calibration: int = 168
    reference: int = 720
    shifts: tuple[float, ...] = (1.0, 2.1)  # more of them find no shift sooner

    def __post_init__(self) -> None:
        if self.calibration < 3 or self.reference < 3 or not self.shifts:
            raise ValueError("a plan needs three windows of calibration and of reference, and a shift to bet on")


@dataclass(frozen=True, slots=True)
class Path:
    """One bet: its evidence `r`, and the run of it that began with window `since` and holds `total` of deviations."""

    r: float = 0.0
    run: float = 0.0
    since: int = 0
    windows: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float:
        """Mean deviation of the run's windows, in units of the series."""
        return self.total / max(1, self.windows)


@dataclass(frozen=True, slots=True)
class Alarm:
    """What was found at window `at`: a change by `size` (units of the series) since `since`, by the bet on `shift`.

    `back` is the evidence that the change is over.
    """

    at: int
    since: int
    size: float
    shift: float
    back: float = 0.0


@dataclass(frozen=True, slots=True)
class Series:
    """One series' memory. It calibrates, with its values in `history`, until `season` is known."""

    first: int
    both_ways: bool = False
    history: tuple[tuple[int, int, float], ...] = ()
    season: Season | None = None
    reference: tuple[float, ...] = ()
    last: tuple[int, float] | None = None
    paths: tuple[Path, ...] = ()
    alarm: Alarm | None = None

    @property
    def calibrated(self) -> bool:
        """Whether it can be judged."""
        return self.season is not None

    @property
    def evidence(self) -> float:
        """Mean evidence of the bets; none while its own alarm lasts."""
        return 0.0 if self.alarm or not self.paths else math.fsum(path.r for path in self.paths) / len(self.paths)


def payoffs(above: Array, tied: Array, earlier: int, shifts: Array) -> Array:
    """What bets on `shifts` (B,) pay a residual with `above` of `earlier` ones above it and `tied` equal: (..., B).

    The mean over all ranks is 1 for every shift; a shift below zero bets on a fall.
    """
    low = (above / (earlier + 1))[..., None]
    high = ((above + tied + 1) / (earlier + 1))[..., None]
    # the share of a shifted normal law whose p lies between low and high; of the smaller tail, for precision
    falls = shifts < 0
    ends = np.where(falls, 1 - high, low), np.where(falls, 1 - low, high)
    share = ndtr(np.abs(shifts) + ndtri(ends[1])) - ndtr(np.abs(shifts) + ndtri(ends[0]))
    paid: Array = np.maximum(share / (high - low), 1e-12)
    return paid


def push(series: Series, number: int, *, hour: int, value: float, in_control: bool, plan: Plan) -> Series:
    """Take one window's value in. Windows that are not `in_control` are judged, but nothing is learnt from them.

    Raises ValueError on a window that is not newer than the last one, or a value that is not finite.
    """
    newest = series.last[0] if series.last else series.history[-1][0] if series.history else None
    if (newest is not None and number <= newest) or not math.isfinite(value):
        raise ValueError(f"window {number} cannot follow window {newest} with value {value}")
    if series.season is None:
        return _learn(series, number, hour, value, plan) if in_control else series
    deviation = series.season.deviation(value, hour)
    before = series.last[1] if series.last is not None and series.last[0] == number - 1 else None
    residual = _rounded(series.season.residual(deviation, before))
    paid = _paid(residual, series, plan)
    moved = replace(series, last=(number, deviation))
    if series.alarm is not None:
        return _look_back(moved, series.alarm, paid, plan)
    paths = tuple(_step(path, e, number, deviation) for path, e in zip(series.paths, paid, strict=True))
    kept = (*series.reference, residual)[-plan.reference :] if in_control else series.reference
    return replace(moved, paths=paths, reference=kept)


def _learn(series: Series, number: int, hour: int, value: float, plan: Plan) -> Series:
    history = (*series.history, (number, hour, value))
    if len(history) < plan.calibration:
        return replace(series, history=history)
    numbers, hours, values = (np.array(column) for column in zip(*history, strict=True))
    fitted = fit(values[:, None].astype(np.float64), hours, np.diff(numbers, prepend=numbers[0]) == 1)
    reference = tuple(_rounded(float(each)) for each in fitted.residuals[-plan.reference :, 0])
    season = fitted.season(0)
    return replace(
        series,
        history=(),
        season=season,
        reference=reference,
        last=(number, season.deviation(value, hour)),
        paths=tuple(Path() for _ in bets(plan, series.both_ways)),
    )


def bets(plan: Plan, both_ways: bool) -> tuple[float, ...]:
    """The shifts bet on, in standard deviations."""
    return (*plan.shifts, *(-shift for shift in plan.shifts)) if both_ways else plan.shifts


def _paid(residual: float, series: Series, plan: Plan) -> list[float]:
    earlier = np.array(series.reference)
    above, tied = float((earlier > residual).sum()), float((earlier == residual).sum())
    shifts = np.array(bets(plan, series.both_ways))
    paid: list[float] = payoffs(np.array(above), np.array(tied), len(earlier), shifts).tolist()
    return paid


def _step(path: Path, e: float, number: int, deviation: float) -> Path:
    r = min(MOST, (1 + path.r) * e)
    if path.run <= 0:  # whatever came before spoke against a change
        path = Path(since=number)
    run = path.run + math.log(e)
    return Path(r, run, path.since, path.windows + 1, path.total + deviation)


def _look_back(series: Series, alarm: Alarm, paid: list[float], plan: Plan) -> Series:
    """While an alarm lasts, only whether it is over is looked at: whether a bet on three quarters of it loses."""
    sd = series.season.sd if series.season else 0.0
    below = [shift for shift in plan.shifts if shift * sd <= 0.75 * abs(alarm.size)]
    shift = math.copysign(max(below, default=min(plan.shifts)), alarm.shift)
    e = paid[bets(plan, series.both_ways).index(shift)]
    back = max(0.0, alarm.back - math.log(e))
    if back >= OVER:
        return replace(series, alarm=None, paths=tuple(Path() for _ in series.paths))
    return replace(series, alarm=replace(alarm, back=back))


def _telling(series: Series, floor: float) -> Path | None:
    """The path with the most evidence, where it is credible and its change not below the floor."""
    if series.alarm is not None or not series.paths:
        return None
    best = max(series.paths, key=lambda path: path.r)
    return best if best.run >= CREDIBLE and abs(best.mean) >= floor else None


def _restarted(series: Series) -> Series:
    return replace(series, paths=tuple(replace(path, r=0.0) for path in series.paths))


def _rounded(value: float) -> float:
    """Six significant digits: what is stored is what was judged."""
    return float(f"{value:.6g}")


@dataclass(frozen=True, slots=True)
class Judged(Generic[Key]):
    """All series after one window, the `total` evidence that was looked at, and the series that `raised` an alarm."""

    panel: Mapping[Key, Series]
    total: float
    raised: Key | None = None


def judge(
    panel: Mapping[Key, Series], number: int, *, threshold: float, floors: Mapping[Key, float], plan: Plan
) -> Judged[Key]:
    """Hold the mean evidence of all series against the threshold, and start anew where it is reached.

    The alarm is that of the series with the most evidence among those whose change is credible and worth a word:
    `floors` holds the least such change of a series, in its units. A panel without series has no evidence.
    """
    total = math.fsum(series.evidence for series in panel.values()) / max(1, len(panel))
    if total < threshold:
        return Judged(panel, total)
    worth = {key: path for key, series in panel.items() if (path := _telling(series, floors.get(key, 0.0))) is not None}
    if not worth:
        return Judged(panel, total)
    named = max(worth, key=lambda key: panel[key].evidence)
    series, path = panel[named], worth[named]
    shift = bets(plan, series.both_ways)[series.paths.index(path)]
    fresh = {key: _restarted(each) for key, each in panel.items()}
    # what the change itself brought must not become the new normal
    kept = series.reference[: max(3, len(series.reference) - path.windows)]
    alarm = Alarm(number, path.since, path.mean, shift)
    fresh[named] = replace(series, reference=kept, paths=tuple(Path() for _ in series.paths), alarm=alarm)
    return Judged(fresh, total, named)
